"""Who somebody is: sign-up and login, passwords, tokens, and the limits on attempts."""
