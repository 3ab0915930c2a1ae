"""``broker serve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import uvloop

from broker.cli.options import PathOption, file_source
from broker.origins import LOCAL_ORIGINS
from broker.server.run import set_up_logging
from broker.server.signals import ignore_hangups
from broker.server.workers import run
from broker.settings import TABLE, Settings, read_settings

_DEFAULTS = Settings()


@click.command("serve")
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
@click.option(
    "--no-console", "console", is_flag=True, flag_value="no", default=None,
    help="Shows no console at / (with --static: at /$console).",
)  # fmt: skip
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
def serve(config: Path | None, more: tuple[str, ...], verbose: bool, **options: Any) -> None:
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
