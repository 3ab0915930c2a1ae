"""The command line. Data goes to standard output, everything else to standard error."""

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
import msgspec
import uvloop

from broker import __version__, raw_json
from broker.cli.boundary import clear_errors
from broker.cli.client import Client, ClientError, Unsure, check_id, check_token, collection
from broker.cli.operations import COMMANDS
from broker.cli.options import Commands, Password, PathOption, Text, WithNumbers, file_source, given_by
from broker.cli.process import prepare
from broker.cli.urls import parse_url
from broker.errors import BadRequest
from broker.origins import LOCAL_ORIGINS
from broker.records import make_uuid
from broker.server.hangup import ignore_hangups
from broker.server.run import set_up_logging
from broker.server.tls import client_context
from broker.server.workers import run
from broker.settings import TABLE, Settings, read_settings
from broker.users import UserView

TOKEN_FILE = Path("~/.config/broker/token")
_DEFAULTS = Settings()
_user_decoder = msgspec.json.Decoder(UserView)

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
    """The path with the home folder in place of ~. If there is no home folder it returns None, or raises ClientError if
    the file is needed."""
    try:
        return file.expanduser()
    except RuntimeError:  # the system does not know this user, as in a container
        if not needed:
            return None
        raise ClientError(
            f"{given_by('token_file')}: {file} is below a home folder, and this user has none; give --token-file FILE, "
            "or a token in BROKER_TOKEN"
        ) from None


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Turns a ValueError into a ClientError that names the option or variable at fault."""
    try:
        yield
    except ValueError as error:
        raise ClientError(f"{source}: {error}") from None


def console_script() -> None:
    """The command ``broker``: this process is its own. A program that calls ``main`` keeps its process as it is."""
    prepare()
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
def serve_command(
    host: str | None, port: str | None, data: str | None, database: str | None, workers: str | None,
    origin: tuple[str, ...], allow_header: tuple[str, ...], config: Path | None, more: tuple[str, ...], verbose: bool,
) -> None:  # fmt: skip
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
@click.password_option(
    envvar="BROKER_PASSWORD", type=Password(), help="Default: $BROKER_PASSWORD; otherwise it is asked for."
)
@click.option("--info", default="null", help="Any JSON to store with the user.")
@_client_options
def user_add(username: str, password: str, info: str, **options: Any) -> None:
    """Create a user, and print it."""
    info = _without_mark(info)
    _json(info, "--info")
    with clear_errors():
        body = f'{{"username":{json.dumps(username)},"password":{json.dumps(password)},"info":{info}}}'
        click.echo(_user(_client(**options, needs_token=False).post("/users", body.encode())))


@main.command("login")
@click.argument("username")
@click.option(
    "--password", prompt=True, hide_input=True, envvar="BROKER_PASSWORD", type=Password(),
    help="Default: $BROKER_PASSWORD; otherwise it is asked for.",
)  # fmt: skip
@_url
@_certificate
@_token_file
def login(username: str, password: str, url: str, ca: Path | None, token_file: Path) -> None:
    """Log in, and keep the token in a file that only you can read."""
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
@click.option("--uuid", help="A uuid of your own, so that an insert that was cut off can be sent again.")
@_client_options
def insert(event: str, data: str, at: str | None, log_only: bool, uuid: str | None, **options: Any) -> None:
    """Insert a record, and print it. DATA is JSON, or - for standard input."""
    with clear_errors():
        text = _without_mark(sys.stdin.buffer.read().decode() if data == "-" else data)
        _json(text, "DATA")
        # The body is put together by hand, so that DATA is sent exactly as it was given, with its text of numbers.
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
@click.option("--count", type=int, help="Stop after this many records.")
@_client_options
def listen(events: tuple[str, ...], last_event_id: str, count: int | None, **options: Any) -> None:
    """Print the stream, one JSON object a line, and resume it after interruptions. EVENTS are names, or prefixes such
    as 'orders/*'."""
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
@click.option("--limit", type=click.IntRange(1, 1000), help="Print at most this many records.")
@click.option("--newest-first", is_flag=True, help="Print the newest records first, in place of the oldest.")
@_client_options
def log(event: str, limit: int | None, newest_first: bool, **options: Any) -> None:
    """Print the log of an event, one record a line."""
    with clear_errors():
        for line in _client(**options).lines(collection(event, limit, newest_first)):
            click.echo(line)


@main.command("cancel")
@click.argument("uuid")
@_client_options
def cancel(uuid: str, **options: Any) -> None:
    """Cancel a pending record, and print it."""
    with clear_errors():
        click.echo(_client(**options).post(f"/cancel/{quote(uuid, safe='')}"))


for _command in COMMANDS:
    main.add_command(_command)


def _user(answer: str) -> str:
    """Returns the user alone from the response to a sign-up, which also contains a token: a terminal shows no token."""
    try:
        user, compact = raw_json.decode(_user_decoder, answer.encode(), "the response")
    except BadRequest as error:
        raise ClientError(f"the server responded with something else than a user: {error}") from None
    user.info = msgspec.Raw(compact(bytes(user.info)))
    return msgspec.json.encode(user).decode()


def _seconds(text: str) -> None:
    """Refuses what is not a number, because it would break the JSON of the body. The server checks the number."""
    if not isinstance(_number(text), int | float):
        raise click.ClickException(f"--at: expected seconds since 1970, such as 1893456000, got {text!r}")


def _number(text: str) -> Any:
    try:
        return json.loads(text, parse_int=float)
    except ValueError:
        return None


def _without_mark(text: str) -> str:
    """Removes the byte order mark that some programs write, and which is not part of the JSON (RFC 8259, section
    8.1)."""
    return text.removeprefix("\ufeff")


def _json(text: str, name: str) -> Any:
    """Refuses what is not JSON. ``name`` is what the message calls it."""
    try:
        return json.loads(text, parse_int=str, parse_float=str)  # as text, because int() refuses very long numbers
    except RecursionError:
        raise click.ClickException(f"{name} is nested too deep") from None
    except ValueError as error:
        raise click.ClickException(
            f"{name} is not JSON: {error}; a string needs its own quotes, as in '\"text\"'"
        ) from None


def _new_uuid() -> str:
    return str(make_uuid(time.time_ns() // 1_000_000))
