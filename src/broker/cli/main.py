"""The command line. Data goes to standard output, everything else to standard error."""

from __future__ import annotations

import click

from broker import __version__
from broker.cli.options import Commands
from broker.cli.process import open_standard_files, speak_utf8

# Where each command is. Its module is imported when the command is called, because most commands need little, and the
# server needs much.
_COMMANDS = {
    "serve": "broker.cli.serve.serve",
    "login": "broker.cli.login.login",
    "insert": "broker.cli.records.insert",
    "listen": "broker.cli.records.listen",
    "log": "broker.cli.records.log",
    "snapshot": "broker.cli.records.snapshot",
    "pending": "broker.cli.records.pending",
    "cancel": "broker.cli.records.cancel",
    "remove": "broker.cli.records.remove",
    "types": "broker.cli.types.types",
    "user": "broker.cli.users.users",
    "key": "broker.cli.keys.keys",
    "rules": "broker.cli.rules.rules",
    "backup": "broker.cli.operations.backup_command",
    "restore": "broker.cli.operations.restore_command",
    "verify": "broker.cli.operations.verify_command",
    "export": "broker.cli.operations.export_command",
    "import": "broker.cli.operations.import_command",
    "move": "broker.cli.operations.move_command",
}


def console_script() -> None:
    """The command ``broker``: this process is its own. A program that calls ``main`` keeps its process as it is."""
    speak_utf8()
    open_standard_files()
    main(prog_name="broker")


@click.group(cls=Commands, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broker")
def main() -> None:
    """Broker: a zero-code real-time API server."""
