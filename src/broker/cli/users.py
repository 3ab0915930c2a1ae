"""``broker user``: accounts, for operators and administrators."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import msgspec

from broker import raw_json
from broker.cli.client import ClientError
from broker.cli.connection import client, client_options
from broker.cli.operator import Ask, config_option, data_option, database_option, operator, operator_options
from broker.cli.options import Password
from broker.cli.values import check_json, print_json, without_mark
from broker.errors import BadRequest
from broker.users import UserView

_PAGE = 1_000  # users in one response
_user_decoder = msgspec.json.Decoder(UserView)


class _Session(msgspec.Struct):
    """The JSON of a login. Times are in seconds since 1970."""

    id: str
    login_at: int
    expires_at: int


class _Account(UserView):
    """The JSON of a user, as the operator sees it. Servers of older versions send less."""

    roles: list[str]
    disabled: bool
    program: bool = False
    sessions: tuple[_Session, ...] = ()


_accounts_decoder = msgspec.json.Decoder(list[_Account])


@click.group("user")
def users() -> None:
    """Manage users."""


@users.command("add")
@click.argument("username")
@click.password_option(
    envvar="BROKER_PASSWORD", type=Password(), help="Default: $BROKER_PASSWORD; otherwise it is asked for."
)
@click.option("--info", default="null", help="Any JSON to store with the user.")
@data_option
@database_option
@config_option
@client_options
def user_add(
    username: str, password: str, info: str, data: Path | None, database: str | None, config: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Create a user, and print it. With --data, --database or --config, also while sign-up is closed."""
    info = without_mark(info)
    check_json(info, "--info")
    body = f'{{"username":{json.dumps(username)},"password":{json.dumps(password)},"info":{info}}}'.encode()
    if data is None and database is None and config is None:
        print_json(_user(client(**options, needs_token=False).post("/users", body)))
        return
    with operator(data, database, config, new=True) as ask:
        print_json(_user(ask.text("POST", "/users", body)))


def _user(answer: str) -> str:
    """Returns the user alone from the response to a sign-up, which also contains a token: a terminal shows no token."""
    try:
        user, compact = raw_json.decode(_user_decoder, answer.encode(), "the response")
    except BadRequest as error:
        raise ClientError(f"the server responded with something else than a user: {error}") from None
    user.info = msgspec.Raw(compact(bytes(user.info)))
    return msgspec.json.encode(user).decode()


@users.command("list")
@operator_options
def user_list(**options: Any) -> None:
    """Print all users, one a line, as JSON."""
    with operator(**options) as ask:
        page = _decode(ask.text("GET", f"/users?limit={_PAGE}"))
        while page:
            for user in page:
                print_json(_encode(user))
            page = _decode(ask.text("GET", f"/users?{urlencode({'limit': _PAGE, 'after': page[-1].username})}"))


@users.command("show")
@click.argument("username")
@operator_options
def user_show(username: str, **options: Any) -> None:
    """Print one user, with the newest sessions, as JSON."""
    with operator(**options) as ask:
        print_json(_encode(_find(ask, username)))


@users.command("disable")
@click.argument("username")
@operator_options
def user_disable(username: str, **options: Any) -> None:
    """End all sessions and streams of a user, who cannot log in any more. What the user has scheduled is not
    published."""
    _act(username, "disable", f"{username} is disabled", options)


@users.command("enable")
@click.argument("username")
@operator_options
def user_enable(username: str, **options: Any) -> None:
    """Let a user log in again."""
    _act(username, "enable", f"{username} may log in again", options)


@users.command("role")
@click.argument("username")
@click.argument("roles", nargs=-1)
@click.option("--remove", is_flag=True, help="Takes these roles away, in place of giving them.")
@operator_options
def user_role(username: str, roles: tuple[str, ...], remove: bool, **options: Any) -> None:
    """Give a user roles, such as `admin`; without a role, print those that the user has."""
    with operator(**options) as ask:
        user = _find(ask, username)
        if roles:
            wanted = {*user.roles} - {*roles} if remove else {*user.roles, *roles}
            answer = ask.text("POST", f"/users/{user.id}/roles", json.dumps({"roles": sorted(wanted)}).encode())
            user = _decode(f"[{answer}]")[0]
    click.echo(" ".join(user.roles))


@users.command("erase")
@click.argument("username")
@click.option("--yes", is_flag=True, help="Does not ask.")
@operator_options
def user_erase(username: str, yes: bool, **options: Any) -> None:
    """Erase a user's account: the password, the info, the roles, the sessions and the API keys. Streams end. Nobody can
    get the name again. What the user has inserted stays in the log, with the name."""
    with operator(**options) as ask:
        user = _find(ask, username)
        if not yes:
            if not sys.stdin.isatty():
                raise ClientError(
                    "there is no terminal to ask whether the account is to be erased; if it is, add --yes"
                )
            click.confirm(f"Erase the account {user.username} in {ask.place}, for ever?", abort=True, err=True)
        ask.text("POST", f"/users/{user.id}/erase")
    click.echo(
        f"the account {user.username} is erased, and nobody can get the name again; what it has inserted stays in the "
        "log, with the name",
        err=True,
    )


@users.command("reset")
@click.argument("username")
@operator_options
def user_reset(username: str, **options: Any) -> None:
    """Print a code, valid for an hour, with which the user can set a new password once."""
    with operator(**options) as ask:
        code = ask.json("POST", f"/users/{_find(ask, username).id}/reset")
    until = datetime.fromtimestamp(code["expires_at"], UTC).strftime("%H:%M UTC")
    click.echo(f"valid until {until}, for POST /users/me/password", err=True)
    click.echo(code["code"])


def _decode(answer: str) -> list[_Account]:
    """Decodes a response with users. Raises ClientError."""
    try:
        accounts, compact = raw_json.decode(_accounts_decoder, answer.encode(), "the response")
    except BadRequest as error:
        raise ClientError(f"the server responded with something else than users: {error}") from None
    for account in accounts:
        account.info = msgspec.Raw(compact(bytes(account.info)))
    return accounts


def _encode(account: _Account) -> str:
    return msgspec.json.encode(account).decode()


def _find(ask: Ask, username: str) -> _Account:
    return _decode(ask.text("GET", f"/users?{urlencode({'name': username})}"))[0]


def _act(username: str, verb: str, done: str, options: dict[str, Any]) -> None:
    with operator(**options) as ask:
        ask.text("POST", f"/users/{_find(ask, username).id}/{verb}")
    click.echo(done, err=True)
