"""Which server the commands talk to, and with which token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import click

from broker.cli.client import Client, ClientError, check_token
from broker.cli.options import PathOption, Text, given_by
from broker.cli.urls import parse_url
from broker.server.tls import client_context

# The tokens of `broker login`: a file for each server, so that no server receives the token of another one.
TOKENS = Path("~/.config/broker/tokens")

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
token_option = click.option(
    "--token", envvar="BROKER_TOKEN", default="", type=Text(check_token),
    help="Default: $BROKER_TOKEN, else the file that `broker login` writes.",
)  # fmt: skip
token_file_option = click.option(
    "--token-file", envvar="BROKER_TOKEN_FILE", type=PathOption(),
    help=f"Where `broker login` keeps the token.  [default: a file for each server in {TOKENS}]",
)  # fmt: skip


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    return url_option(certificate(token_option(token_file_option(command))))


def client(url: str, ca: Path | None, token: str, token_file: Path | None, *, needs_token: bool = True) -> Client:
    """Raises ClientError, SettingsError. If the command does not need a token, and the server refuses the one in the
    file, which may have expired, the command continues without it."""
    file = None if token else place_of_token(url, token_file, needed=needs_token)
    if file is None or not file.is_file():
        given = "" if token or token_file is None else given_by("token_file")
        if given.startswith("-"):  # and not a variable, which is set once for many commands
            raise ClientError(f"{given}: {file} is not there; `broker login` writes it")
        return connect(url, ca, token)
    with named(str(file)):
        token = check_token(file.read_text("utf-8-sig").strip())
    return connect(url, ca, token, None if needs_token else _without_token)


def connect(
    url: str, ca: Path | None, token: str = "", without_token: Callable[[ClientError], None] | None = None
) -> Client:
    tls = client_context(ca, given_by("ca")) if url.startswith("https:") else None
    return Client(url, token, tls, without_token=without_token)


def _without_token(refusal: ClientError) -> None:
    click.echo(f"{refusal}; continuing without a token", err=True)


def place_of_token(url: str, token_file: Path | None, *, needed: bool = True) -> Path | None:
    """Returns the path of the file with the token for a server, with the home folder in place of ~. If there is no home
    folder it returns None, or raises ClientError if the file is needed."""
    file = token_file or TOKENS / quote(url, safe="")
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
