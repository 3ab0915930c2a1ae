"""What operators do with a whole log: copies, moves, checks."""
