"""The store on PostgreSQL: many nodes."""
