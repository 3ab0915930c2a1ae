"""Who somebody is: passwords, tokens, and how often one may try."""
