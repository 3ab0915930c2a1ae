"""The command line. Data goes to standard output, all else to standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import uvloop

from broker import __version__
from broker.client import Client, ClientError, Unsure, collection
from broker.errors import SettingsError
from broker.hangup import ignore_hangups
from broker.operations import COMMANDS
from broker.records import make_uuid
from broker.server import set_up_logging
from broker.settings import read_settings
from broker.workers import run

TOKEN_FILE = Path("~/.config/broker/token")

_url = click.option(
    "--url", envvar="BROKER_URL", default="http://127.0.0.1:8080", show_default=True, help="The server."
)
_certificate = click.option(
    "--ca",
    envvar="BROKER_CA",
    type=click.Path(exists=True, dir_okay=False),
    help="A PEM file that the server's certificate is checked with.",
)
_token = click.option(
    "--token",
    envvar="BROKER_TOKEN",
    default="",
    help="Default: $BROKER_TOKEN, else the file that `broker login` writes.",
)
_token_file = click.option(
    "--token-file", envvar="BROKER_TOKEN_FILE", default=TOKEN_FILE, type=click.Path(path_type=Path), show_default=True,
    help="Where `broker login` keeps the token.",
)  # fmt: skip


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    return _url(_certificate(_token(_token_file(command))))


@contextmanager
def _clear_errors() -> Iterator[None]:
    """A sentence instead of a traceback."""
    try:
        yield
    except (ClientError, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:  # `broker log x | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # the token file
        raise click.ClickException(str(error)) from None
    except UnicodeError as error:
        raise click.ClickException(f"an argument or file is not UTF-8: {error}") from None
    except KeyboardInterrupt:
        sys.exit(130)


def _client(url: str, ca: str | None, token: str, token_file: Path) -> Client:
    file = token_file.expanduser()
    if not token and file.is_file():
        token = file.read_text().strip()
    return Client(url, token, ca)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broker")
def main() -> None:
    """Broker: a zero-code real-time API server."""


@main.command("serve")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8080]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for the log and the secret.  [default: ./tmp]")
@click.option("--database", metavar="URL", help="PostgreSQL in place of --data: postgresql://user@host/name")
@click.option("--workers", type=int, help="Processes that share the port; more than 1 need --database.  [default: 1]")
@click.option("--origin", multiple=True, help="A web page's origin that may call, or *; may be given again.")
@click.option(
    "--allow-header", multiple=True, metavar="NAME", help="A header that pages may send, too; may be given again."
)
@click.option(
    "--config",
    envvar="BROKER_CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file; docs/settings.md has all settings.",
)
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; may be given again.")
@click.option("--verbose", envvar="BROKER_VERBOSE", is_flag=True, help="Log more.")
def serve_command(
    host: str | None, port: int | None, data: Path | None, database: str | None, workers: int | None,
    origin: tuple[str, ...], allow_header: tuple[str, ...], config: Path | None, more: tuple[str, ...], verbose: bool,
) -> None:  # fmt: skip
    """Run the server."""
    ignore_hangups()
    set_up_logging(verbose=verbose)
    arguments: dict[str, Any] = {}
    for each in more:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.ClickException(f"--set {each}: expected NAME=VALUE")
        arguments[name] = value
    options = {
        "host": host, "port": port, "data": data, "database": database, "workers": workers, "origin": origin or None,
        "allow_header": allow_header or None,
    }  # fmt: skip
    arguments |= {name: value for name, value in options.items() if value is not None}
    with _clear_errors():
        uvloop.run(run(read_settings(arguments, file=config)))


@main.group("user")
def user_group() -> None:
    """Manage users."""


@user_group.command("add")
@click.argument("username")
@click.password_option(envvar="BROKER_PASSWORD", help="Or $BROKER_PASSWORD; asked for if not given.")
@click.option("--info", default="null", help="Any JSON that goes with the user.")
@_client_options
def user_add(username: str, password: str, info: str, **options: Any) -> None:
    """Create a user; prints it."""
    _json(info, "--info")
    with _clear_errors():
        body = f'{{"username":{json.dumps(username)},"password":{json.dumps(password)},"info":{info}}}'
        click.echo(_client(**options).post("/users", body.encode()))


@main.command("login")
@click.argument("username")
@click.option(
    "--password", prompt=True, hide_input=True, envvar="BROKER_PASSWORD",
    help="Or $BROKER_PASSWORD; asked for if not given.",
)  # fmt: skip
@_url
@_certificate
@_token_file
def login(username: str, password: str, url: str, ca: str | None, token_file: Path) -> None:
    """Log in; the token is kept in a file that only you can read."""
    with _clear_errors():
        answer = Client(url, certificate=ca).post("/login", {"username": username, "password": password})
        file = token_file.expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(json.loads(answer)["jwt"] + "\n")
    click.echo(f"logged in as {username}; the token is in {file}", err=True)


@main.command("insert")
@click.argument("event")
@click.argument("data", default="-")
@click.option("--at", help="Epoch seconds at which it is published.  [default: now]")
@click.option("--log-only", is_flag=True, help="Keep it in the log; never publish it.")
@click.option("--uuid", help="Your own, so that an insert cut off can be sent again.")
@_client_options
def insert(event: str, data: str, at: str | None, log_only: bool, uuid: str | None, **options: Any) -> None:
    """Insert a record; prints it. DATA is JSON, or - for standard input."""
    with _clear_errors():
        text = sys.stdin.buffer.read().decode() if data == "-" else data
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
    with _clear_errors():
        for message in _client(**options).listen(events, last_event_id, lambda text: click.echo(text, err=True)):
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
    with _clear_errors():
        for line in _client(**options).lines(collection(event, limit, newest_first)):
            click.echo(line)


@main.command("cancel")
@click.argument("uuid")
@_client_options
def cancel(uuid: str, **options: Any) -> None:
    """Cancel a pending record; prints it."""
    with _clear_errors():
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
