"""One program for each library of Python: ``program.py`` has what they have in common."""
