"""HTTP: each endpoint is a plain ASGI callable that calls one use case of ``broker.Broker``."""
