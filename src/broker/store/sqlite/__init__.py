"""The store on SQLite: one node."""
