"""The gRPC service: a gateway on an event loop, and a worker process that owns the engine."""
