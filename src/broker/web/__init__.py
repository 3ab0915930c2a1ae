"""HTTP: each endpoint is a method that is an ASGI app, and calls one use case of ``broker.broker.Broker``."""
