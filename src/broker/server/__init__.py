"""How Broker is served: processes, sockets, connections."""
