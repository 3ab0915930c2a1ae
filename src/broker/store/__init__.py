"""Where the log and the users live."""
