"""Other people's libraries for Server-Sent Events, tried on Broker: docs/clients.md has what came of it."""
