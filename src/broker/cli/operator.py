"""How the operator's commands reach Broker: over the socket of the server that runs on the data folder; in this
process, if no server runs there, or the log is in PostgreSQL; or over HTTP, as an administrator."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import click

from broker.cli.client import Client, ClientError, Unreachable
from broker.cli.connection import certificate, client, token_file_option, token_option
from broker.cli.options import PathOption, Text, settings_of
from broker.cli.urls import parse_url
from broker.server.control import NAME, reachable

_TIMEOUT_S = 30.0


# Sends a request: its method, its path, and its body, if it has one. Returns the body of the response, and raises
# ClientError for a refusal.
_Send = Callable[[str, str, bytes | None], str]


class Ask:
    """Asks Broker, in one of the three ways. Both methods raise ClientError for a refusal."""

    def __init__(self, send: _Send, place: str) -> None:
        """``place`` says which log it is, and who answers."""
        self._send = send
        self.place = place

    def text(self, method: str, path: str, body: bytes | None = None) -> str:
        """Returns the JSON of the response as it is, without the line feed at its end."""
        return self._send(method, path, body).removesuffix("\n")

    def json(self, method: str, path: str, body: object = None) -> Any:
        """Sends a value as JSON, and returns the value of the response."""
        sent = None if body is None else json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")
        try:
            return json.loads(self.text(method, path, sent))
        except ValueError:
            raise ClientError("the server responded with something else than JSON; is it Broker?") from None


data_option = click.option(
    "--data",
    type=PathOption(),
    help="The server's folder.  [default: $BROKER_DATA, else what --config says, else ./tmp]",
)
database_option = click.option("--database", metavar="URL", help="The server's database, in place of --data.")
config_option = click.option(
    "--config", envvar="BROKER_CONFIG", type=PathOption(), help="The server's TOML file, which may name either."
)
_url_option = click.option(
    "--url",
    type=Text(parse_url),
    help="The server, which is asked over HTTP, as the administrator whose token this is.",
)


def operator_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which Broker an operator's command is about, and how it is reached."""
    for option in (
        token_file_option,
        token_option,
        certificate,
        _url_option,
        config_option,
        database_option,
        data_option,
    ):
        command = option(command)
    return command


@contextmanager
def operator(
    data: Path | None, database: str | None, config: Path | None, url: str | None = None, ca: Path | None = None,
    token: str = "", token_file: Path | None = None, *, new: bool = False,
) -> Iterator[Ask]:  # fmt: skip
    """Yields what asks Broker. ``new``: whether a folder without a log gets one. Otherwise it is refused, because its
    name is more likely to be wrong. Raises SettingsError and ClientError."""
    if sum(each is not None for each in (data, database, url)) > 1:
        raise ClientError("--data, --database and --url name a server each; give one of them")
    if url is not None:
        yield Ask(partial(_ask_over_http, client(url, ca, token, token_file)), f"the server at {url}")
        return
    settings = settings_of(data, config, database)
    place = "the database"
    if not settings.database:
        if _is_served(settings.data):
            yield Ask(partial(_ask_over_socket, settings.data), f"the server on {settings.data}")
            return
        is_new = not (settings.data / "broker.db").exists()
        place = f"{'a new log in ' if is_new else ''}{settings.data}, on which no server runs"
        if is_new and not new:
            raise ClientError(
                f"{settings.data}: there is no log here; give the server's folder as --data, or its --database"
            )
    from broker.cli.in_process import asked_in_process  # imports the whole server, which the other ways do not need

    with asked_in_process(settings) as send:
        yield Ask(lambda *request: _result(*send(*request)), place)


def _is_served(folder: Path) -> bool:
    """Whether a server runs on this folder. Raises ClientError if this user may not use its socket."""
    if not (folder / NAME).is_socket():
        return False
    try:
        with reachable(folder) as path, socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return False  # the server was killed, and has left its socket
    except OSError as error:
        raise ClientError(
            f"cannot use {folder / NAME}: {error.strerror}; run this as the user that Broker runs as"
        ) from None
    return True


def _ask_over_http(server: Client, method: str, path: str, body: bytes | None) -> str:
    return server.get(path)[0] if method == "GET" else server.post(path, body or b"")


class _SocketConnection(HTTPConnection):
    """HTTP over the operator's socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with reachable(self._folder) as path:
            self.sock.connect(path)


def _ask_over_socket(folder: Path, method: str, path: str, body: bytes | None) -> str:
    connection = _SocketConnection(folder)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return _result(response.status, response.read())
    except (OSError, HTTPException) as error:
        raise Unreachable(f"the server in {folder} did not respond: {str(error) or type(error).__name__}") from None
    finally:
        connection.close()


def _result(status: int, body: bytes) -> str:
    if status >= 400:
        raise ClientError(f"{json.loads(body)['detail']} ({status})", status)
    return body.decode()
