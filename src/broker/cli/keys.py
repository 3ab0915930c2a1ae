"""``broker key``: the API keys of programs, for operators and administrators."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import click

from broker.cli.operator import operator, operator_options
from broker.cli.values import print_json

_DAY_S = 86_400


@click.group("key")
def keys() -> None:
    """Manage the API keys of programs."""


@keys.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="A role of the program; several times for several roles.")
@click.option("--days", type=click.IntRange(1, 36_500), help="After how many days the key expires; default: never.")
@operator_options
def key_add(name: str, roles: tuple[str, ...], days: int | None, **options: Any) -> None:
    """Make an API key for the program NAME, and print it. It is shown only once.

    The rules know the program by this name, as they know a user. It may have two keys at a time, so that one can
    replace the other: make a second one, give it to the program, and revoke the first."""
    body: dict[str, object] = {"name": name}
    if roles:
        body["roles"] = roles
    if days is not None:
        body["expires_at"] = int(time.time()) + days * _DAY_S
    with operator(**options) as ask:
        key = ask.json("POST", "/keys", body)
    until = "does not expire" if key["expires_at"] is None else f"expires on {_day(key['expires_at'])}"
    roles_of = f"the roles {', '.join(key['roles'])}" if key["roles"] else "no role"
    click.echo(
        f"the program {key['name']} has {roles_of}; this key {until}, and is not shown again. The program sends it as "
        f"Authorization: Bearer <key>; `broker key revoke {key['id']}` makes it invalid",
        err=True,
    )
    click.echo(key["key"])


@keys.command("list")
@operator_options
def key_list(**options: Any) -> None:
    """Print all API keys, one a line, as JSON, without what a program sends."""
    with operator(**options) as ask:
        for key in ask.json("GET", "/keys"):
            print_json(json.dumps(key, separators=(",", ":")))


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@operator_options
def key_revoke(key_id: str, **options: Any) -> None:
    """Make an API key invalid, and end the streams that were opened with it. ID is what `broker key list` shows, or the
    key itself."""
    if key_id.startswith("bk_"):
        key_id = key_id.split("_")[1]  # a URL has no secrets
    with operator(**options) as ask:
        ask.text("POST", f"/keys/{key_id}/revoke")
    click.echo(f"the key {key_id} is revoked", err=True)


def _day(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
