"""``broker login``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from broker.cli.connection import certificate, connect, place_of_token, token_file_option, url_option
from broker.cli.options import Password


@click.command("login")
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
