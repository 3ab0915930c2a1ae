"""``python -m broker`` is the command ``broker``."""

from broker.cli.main import console_script

console_script()
