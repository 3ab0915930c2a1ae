"""Who may do what: the rules of events, without I/O and without a clock."""
