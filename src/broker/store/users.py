"""The rows of the table ``users``, which are the same on both databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from broker.users import Key, Session, User, UserState

# The columns in the order of the table, without the time of the sign-up.
COLUMNS = (
    "id", "username", "username_key", "info", "password_hash", "gen", "disabled", "roles", "ended", "code",
    "code_until_us", "keys", "sessions",
)  # fmt: skip

_keys = msgspec.json.Decoder(tuple[Key, ...])
_sessions = msgspec.json.Decoder(tuple[Session, ...])


def read_keys(text: str) -> tuple[Key, ...]:
    """Raises msgspec.MsgspecError."""
    return _keys.decode(text)


def user_of(row: Sequence[Any]) -> User:
    """Returns the user in a row of COLUMNS."""
    user_id, username, name_key, info, password_hash, gen, disabled, roles, ended, code, code_until_us, *more = row
    keys, sessions = more
    return User(
        user_id, username, bytes(info), password_hash,
        UserState(gen, bool(disabled), tuple(json.loads(roles)), tuple(json.loads(ended))), code, code_until_us,
        read_keys(keys), _sessions.decode(sessions), "" if username else name_key,
    )  # fmt: skip


def user_values(user: User) -> tuple[Any, ...]:
    """Returns the values of the row, in the order of COLUMNS."""
    state = user.state
    return (
        user.id, user.username, user.name_key, user.info.decode(), user.password_hash, state.gen, state.disabled,
        json.dumps(state.roles), json.dumps(state.ended), user.code, user.code_until_us,
        msgspec.json.encode(user.keys).decode(), msgspec.json.encode(user.sessions).decode(),
    )  # fmt: skip
