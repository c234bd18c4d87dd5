"""The engine: one loop for the library, the command line and the service. Importing this loads no torch."""
