"""What the service keeps: jobs in a database, contents in files."""
