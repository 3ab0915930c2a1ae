"""What is live: the newest records on their way from the store to the subscribers."""
