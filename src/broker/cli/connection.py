"""Which server the commands talk to, and with which token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from broker.cli.client import Client, ClientError, check_token
from broker.cli.options import PathOption, Text, given_by
from broker.cli.urls import parse_url
from broker.server.tls import client_context

TOKEN_FILE = Path("~/.config/broker/token")

url_option = click.option(
    "--url", envvar="BROKER_URL", default="http://127.0.0.1:8080", type=Text(parse_url), show_default=True,
    help="The server.",
)  # fmt: skip
certificate = click.option(
    "--ca",
    envvar="BROKER_CA",
    type=PathOption(),
    help="A PEM file that the server's certificate is checked with.",
)
_token = click.option(
    "--token", envvar="BROKER_TOKEN", default="", type=Text(check_token),
    help="Default: $BROKER_TOKEN, else the file that `broker login` writes.",
)  # fmt: skip
token_file_option = click.option(
    "--token-file", envvar="BROKER_TOKEN_FILE", default=TOKEN_FILE, type=PathOption(), show_default=True,
    help="Where `broker login` keeps the token.",
)  # fmt: skip


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    return url_option(certificate(_token(token_file_option(command))))


def client(url: str, ca: Path | None, token: str, token_file: Path, *, needs_token: bool = True) -> Client:
    """Raises ClientError, SettingsError."""
    file = None if token else home(token_file, needed=needs_token)
    if file is not None and file.is_file():
        with named(str(file)):
            token = check_token(file.read_text("utf-8-sig").strip())
    return connect(url, ca, token)


def connect(url: str, ca: Path | None, token: str = "") -> Client:
    return Client(url, token, client_context(ca, given_by("ca")) if url.startswith("https:") else None)


def home(file: Path, *, needed: bool = True) -> Path | None:
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
def named(source: str) -> Iterator[None]:
    """Turns a ValueError into a ClientError that names the option or variable at fault."""
    try:
        yield
    except ValueError as error:
        raise ClientError(f"{source}: {error}") from None
