"""The command line. Data goes to standard output, all else to standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import uvloop

from broker import __version__
from broker.cli.boundary import clear_errors
from broker.cli.client import Client, ClientError, Unsure, check_id, check_token, collection
from broker.cli.operations import COMMANDS
from broker.cli.options import Commands, Password, PathOption, Text, WithNumbers, file_source, given_by
from broker.cli.process import prepare
from broker.cli.urls import parse_url
from broker.origins import LOCAL_ORIGINS
from broker.records import make_uuid
from broker.server.hangup import ignore_hangups
from broker.server.run import set_up_logging
from broker.server.tls import client_context
from broker.server.workers import run
from broker.settings import TABLE, read_settings

TOKEN_FILE = Path("~/.config/broker/token")

_url = click.option(
    "--url", envvar="BROKER_URL", default="http://127.0.0.1:8080", type=Text(), show_default=True, help="The server."
)
_certificate = click.option(
    "--ca",
    envvar="BROKER_CA",
    type=PathOption(),
    help="A PEM file that the server's certificate is checked with.",
)
_token = click.option(
    "--token",
    envvar="BROKER_TOKEN",
    default="",
    type=Text(),
    help="Default: $BROKER_TOKEN, else the file that `broker login` writes.",
)
_token_file = click.option(
    "--token-file", envvar="BROKER_TOKEN_FILE", default=TOKEN_FILE, type=PathOption(), show_default=True,
    help="Where `broker login` keeps the token.",
)  # fmt: skip


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    return _url(_certificate(_token(_token_file(command))))


def _client(url: str, ca: Path | None, token: str, token_file: Path, *, needs_token: bool = True) -> Client:
    """Raises ClientError, SettingsError."""
    source = given_by("token")
    file = None if token else _home(token_file, needed=needs_token)
    if file is not None and file.is_file():
        token, source = file.read_text("utf-8-sig").strip(), str(file)
    with _named(source):
        check_token(token)
    return _connect(url, ca, token)


def _connect(url: str, ca: Path | None, token: str = "") -> Client:
    with _named(given_by("url")):
        address = parse_url(url)
    return Client(address, token, client_context(ca, given_by("ca")) if address.startswith("https:") else None)


def _home(file: Path, *, needed: bool = True) -> Path | None:
    """With the home folder in place of ~. Without such a folder None, or ClientError if the file is needed."""
    try:
        return file.expanduser()
    except RuntimeError:  # a user without an entry among the users, as in a container
        if not needed:
            return None
        raise ClientError(
            f"{given_by('token_file')}: {file} is below a home folder, and this user has none; give --token-file FILE, "
            "or a token in BROKER_TOKEN"
        ) from None


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Has a refusal say which option or variable it is about."""
    try:
        yield
    except ValueError as error:
        raise ClientError(f"{source}: {error}") from None


class _Main(Commands):
    def main(self, *given: Any, **more: Any) -> Any:
        if not given and more.get("args") is None:  # it is this process's own command line
            prepare()
        return super().main(*given, **more)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broker")
def main() -> None:
    """Broker: a zero-code real-time API server."""


@main.command("serve")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", help="Port to listen on; 0 takes a free one.  [default: 8080]")
@click.option("--data", help="Folder for the log and the secret.  [default: ./tmp]")
@click.option("--database", metavar="URL", help="PostgreSQL in place of --data: postgresql://user@host/name")
@click.option("--workers", help="Processes that share the port; more than 1 need --database.  [default: 1]")
@click.option(
    "--origin", multiple=True,
    help="The origin of web pages that may call, or *; repeatable.  [default: every port of http://localhost and "
    "http://127.0.0.1]",
)  # fmt: skip
@click.option(
    "--allow-header", multiple=True, metavar="NAME", help="A header that pages may send, too; may be given again."
)
@click.option(
    "--config",
    envvar="BROKER_CONFIG",
    type=PathOption(),
    help="A TOML file; docs/settings.md has all settings.",
)
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; may be given again.")
@click.option("--verbose", envvar="BROKER_VERBOSE", show_envvar=True, is_flag=True, help="Log more.")
def serve_command(
    host: str | None, port: str | None, data: str | None, database: str | None, workers: str | None,
    origin: tuple[str, ...], allow_header: tuple[str, ...], config: Path | None, more: tuple[str, ...], verbose: bool,
) -> None:  # fmt: skip
    """Run the server."""
    ignore_hangups()
    set_up_logging(verbose=verbose)
    arguments: dict[str, Any] = {}
    for each in more:
        name, equals, value = each.partition("=")
        if not equals:
            known = name if name in {setting.name for setting in TABLE} else ""  # else it may be a secret
            raise click.ClickException(f"--set {known or '…'}: expected NAME=VALUE, such as heartbeat_s=10")
        arguments[name] = value
    options = {
        "host": host, "port": port, "data": data, "database": database, "workers": workers, "origin": origin or None,
        "allow_header": allow_header or None,
    }  # fmt: skip
    arguments |= {name: value for name, value in options.items() if value is not None}
    with clear_errors():
        settings = read_settings(arguments, file=config, file_source=file_source())
        if "origin" not in settings.sources:
            settings = replace(settings, origin=LOCAL_ORIGINS)
        uvloop.run(run(settings))


@main.group("user")
def user_group() -> None:
    """Manage users."""


@user_group.command("add")
@click.argument("username")
@click.password_option(envvar="BROKER_PASSWORD", type=Password(), help="Or $BROKER_PASSWORD; asked for if not given.")
@click.option("--info", default="null", help="Any JSON that goes with the user.")
@_client_options
def user_add(username: str, password: str, info: str, **options: Any) -> None:
    """Create a user; prints it."""
    info = _without_mark(info)
    _json(info, "--info")
    with clear_errors():
        body = f'{{"username":{json.dumps(username)},"password":{json.dumps(password)},"info":{info}}}'
        click.echo(_client(**options, needs_token=False).post("/users", body.encode()))


@main.command("login")
@click.argument("username")
@click.option(
    "--password", prompt=True, hide_input=True, envvar="BROKER_PASSWORD", type=Password(),
    help="Or $BROKER_PASSWORD; asked for if not given.",
)  # fmt: skip
@_url
@_certificate
@_token_file
def login(username: str, password: str, url: str, ca: Path | None, token_file: Path) -> None:
    """Log in; the token is kept in a file that only you can read."""
    with clear_errors():
        file = _home(token_file) or token_file
        answer = _connect(url, ca).post("/login", {"username": username, "password": password})
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        private = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "w", encoding="ascii") as output:
            output.write(json.loads(answer)["jwt"] + "\n")
    click.echo(f"logged in as {username}; the token is in {file}", err=True)


@main.command("insert", cls=WithNumbers)
@click.argument("event")
@click.argument("data", default="-")
@click.option("--at", help="Epoch seconds at which it is published.  [default: now]")
@click.option("--log-only", is_flag=True, help="Keep it in the log; never publish it.")
@click.option("--uuid", help="Your own, so that an insert cut off can be sent again.")
@_client_options
def insert(event: str, data: str, at: str | None, log_only: bool, uuid: str | None, **options: Any) -> None:
    """Insert a record; prints it. DATA is JSON, or - for standard input."""
    with clear_errors():
        text = _without_mark(sys.stdin.buffer.read().decode() if data == "-" else data)
        _json(text, "DATA")
        # Put together by hand: DATA goes out as given, number text and all.
        fields = {"event": json.dumps(event), "data": text, "uuid": json.dumps(uuid or _new_uuid())}
        if at is not None:
            _seconds(at)
            fields["timestamp"] = at
        if log_only:
            fields["published"] = "true"
        body = "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"
        try:
            click.echo(_client(**options).post("/insert", body.encode()))
        except Unsure as error:
            raise ClientError(f"{error}; it may be stored: send it again with --uuid {fields['uuid'][1:-1]}") from None


@main.command("listen")
@click.argument("events", nargs=-1)
@click.option("--last-event-id", default="", help="Resume after this id.")
@click.option("--count", type=int, help="Stop after so many records.")
@_client_options
def listen(events: tuple[str, ...], last_event_id: str, count: int | None, **options: Any) -> None:
    """Print the stream, one JSON object a line; resumes by itself. EVENTS are names, or prefixes such as 'orders/*'."""
    left = count
    with clear_errors():
        with _named("--last-event-id"):
            check_id(last_event_id)
        client = _client(**options, needs_token=False)
        for message in client.listen(events, last_event_id, lambda text: click.echo(text, err=True)):
            event_id, event = json.dumps(message.id), json.dumps(message.event, ensure_ascii=False)
            click.echo(f'{{"id":{event_id},"event":{event},"data":{message.data}}}')
            if left is not None and not message.event.startswith("$"):
                left -= 1
                if left <= 0:
                    return


@main.command("log")
@click.argument("event")
@click.option("--limit", type=click.IntRange(1, 1000), help="So many records at most.")
@click.option("--newest-first", is_flag=True, help="Otherwise oldest first.")
@_client_options
def log(event: str, limit: int | None, newest_first: bool, **options: Any) -> None:
    """Print an event's log, one record a line."""
    with clear_errors():
        for line in _client(**options).lines(collection(event, limit, newest_first)):
            click.echo(line)


@main.command("cancel")
@click.argument("uuid")
@_client_options
def cancel(uuid: str, **options: Any) -> None:
    """Cancel a pending record; prints it."""
    with clear_errors():
        click.echo(_client(**options).post(f"/cancel/{quote(uuid, safe='')}"))


for _command in COMMANDS:
    main.add_command(_command)


def _seconds(text: str) -> None:
    """Only whether it is a number; whether it is a good one the server says."""
    if not isinstance(_number(text), int | float):
        raise click.ClickException(f"--at: expected seconds since 1970, such as 1893456000, got {text!r}")


def _number(text: str) -> Any:
    try:
        return json.loads(text, parse_int=float)
    except ValueError:
        return None


def _without_mark(text: str) -> str:
    """Some programs begin UTF-8 with a byte order mark, which nobody sees (RFC 8259, section 8.1)."""
    return text.removeprefix("\ufeff")


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str)  # of any length: nobody computes with them here
    except RecursionError:
        raise click.ClickException(f"{name} is nested too deep") from None
    except ValueError as error:
        raise click.ClickException(
            f"{name} is not JSON: {error}; a string needs its own quotes, as in '\"text\"'"
        ) from None


def _new_uuid() -> str:
    return str(make_uuid(time.time_ns() // 1_000_000))
