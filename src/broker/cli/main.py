"""The command line. Data goes to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from broker import __version__
from broker.cli.connection import (
    certificate,
    connect,
    place_of_token,
    token_file_option,
    url_option,
)
from broker.cli.operations import COMMANDS
from broker.cli.options import Commands, Password, PathOption, file_source
from broker.cli.process import open_standard_files, speak_utf8
from broker.cli.records import RECORD_COMMANDS
from broker.cli.rules import rules
from broker.cli.types import types
from broker.cli.users import users
from broker.origins import LOCAL_ORIGINS
from broker.server.run import set_up_logging
from broker.server.signals import ignore_hangups
from broker.server.workers import run
from broker.settings import TABLE, Settings, read_settings
from broker.users import UserView

_DEFAULTS = Settings()
_user_decoder = msgspec.json.Decoder(UserView)


def console_script() -> None:
    """The command ``broker``: this process is its own. A program that calls ``main`` keeps its process as it is."""
    speak_utf8()
    open_standard_files()
    main(prog_name="broker")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broker")
def main() -> None:
    """Broker: a zero-code real-time API server."""


@main.command("serve")
@click.option("--host", help=f"The address to listen on.  [default: {_DEFAULTS.host}]")
@click.option("--port", help=f"The port to listen on; 0 takes a free one.  [default: {_DEFAULTS.port}]")
@click.option("--data", help=f"The folder of the log and of the token secret.  [default: ./{_DEFAULTS.data}]")
@click.option(
    "--database", metavar="URL", help="Keeps the log in PostgreSQL in place of --data: postgresql://user@host/name"
)
@click.option(
    "--workers", help=f"Processes that share the port; more than 1 need --database.  [default: {_DEFAULTS.workers}]"
)
@click.option("--rules", metavar="FILE", help="Applies this rules file, when the server starts and on SIGHUP.")
@click.option("--yes", is_flag=True, default=None, help="Applies it even if it permits more than the rules in force.")
@click.option("--open", is_flag=True, default=None, help="Serves other machines although there are no rules.")
@click.option("--static", metavar="DIR", help="Serves a built front-end at /: the folder that has its index.html.")
@click.option(
    "--origin", multiple=True,
    help="The origin of web pages that may call, or *; repeatable.  [default: every port of http://localhost and "
    "http://127.0.0.1]",
)  # fmt: skip
@click.option("--allow-header", multiple=True, metavar="NAME", help="A further header that pages may send; repeatable.")
@click.option(
    "--config",
    envvar="BROKER_CONFIG",
    type=PathOption(),
    help="A TOML file; docs/settings.md has all settings.",
)
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; repeatable.")
@click.option("--verbose", envvar="BROKER_VERBOSE", show_envvar=True, is_flag=True, help="Log more.")
def serve_command(config: Path | None, more: tuple[str, ...], verbose: bool, **options: Any) -> None:
    """Run the server."""
    ignore_hangups()
    set_up_logging(verbose=verbose)
    arguments: dict[str, Any] = {}
    for text in more:
        name, equals, value = text.partition("=")
        if not equals:
            # What is not the name of a setting is not shown, because it may be a secret.
            known = name if name in {setting.name for setting in TABLE} else ""
            raise click.ClickException(f"--set {known or '…'}: expected NAME=VALUE, such as heartbeat_s=10")
        arguments[name] = value
    # An option that is not given is None, or an empty tuple if it is repeatable.
    arguments |= {name: value for name, value in options.items() if value not in (None, ())}
    if "yes" in arguments:
        arguments["rules_may_widen"] = arguments.pop("yes")
    settings = read_settings(arguments, file=config, file_source=file_source())
    if "origin" not in settings.sources:
        settings = replace(settings, origin=LOCAL_ORIGINS)
    uvloop.run(run(settings))


@main.command("login")
@click.argument("username")
@click.option(
    "--password", prompt=True, hide_input=True, envvar="BROKER_PASSWORD", type=Password(),
    help="Default: $BROKER_PASSWORD; otherwise it is asked for.",
)  # fmt: skip
@url_option
@certificate
@token_file_option
def login(username: str, password: str, url: str, ca: Path | None, token_file: Path | None) -> None:
    """Log in, and keep the token in a file that only you can read."""
    file = place_of_token(url, token_file)
    assert file is not None
    body = json.dumps({"username": username, "password": password})
    answer = connect(url, ca).post("/login", body.encode())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    private = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(private, "w", encoding="ascii") as output:
        output.write(json.loads(answer)["jwt"] + "\n")
    click.echo(f"logged in as {username}; the token is in {file}", err=True)


for _command in (*RECORD_COMMANDS, types, users, rules, *COMMANDS):
    main.add_command(_command)
