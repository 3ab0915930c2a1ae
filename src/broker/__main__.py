"""``python -m broker`` is the command ``broker``."""

from broker.cli.main import main

main(prog_name="broker")
