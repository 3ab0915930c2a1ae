"""What an account consists of: User, and the rules for user names and passwords."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

import msgspec

from broker.errors import BadRequest

PASSWORD_CHARACTERS_MIN = 8
PASSWORD_BYTES_MAX = 1_024  # of UTF-8; hashing takes longer for a longer password, which an attacker would choose

_USERNAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class User:
    """One user. ``info`` is JSON as it was sent. Raising ``gen`` makes all older tokens of this user invalid."""

    id: str
    username: str
    info: bytes
    password_hash: str = field(repr=False)
    gen: int = 0
    disabled: bool = False


class UserView(msgspec.Struct):
    """The JSON of a user (docs/http.md)."""

    id: str
    username: str
    info: msgspec.Raw


def encode_user(user: User) -> bytes:
    return msgspec.json.encode(UserView(user.id, user.username, msgspec.Raw(user.info)))


def username_key(username: str) -> str:
    """The form of a user name that must be unique, because people confuse names that differ only in case."""
    return username.lower()


def is_username(text: str) -> bool:
    """Whether ``text`` can be the name of an existing user."""
    return _USERNAME.match(text) is not None


def check_username(username: str) -> str:
    """Returns the name of an existing user if it can be one. Raises BadRequest."""
    if not is_username(username):
        raise BadRequest("username: expected 1 to 64 of A-Z a-z 0-9 . _ @ + -")
    return username


def check_new_username(username: str) -> str:
    """Returns the name of a new user if it is permitted. Raises BadRequest.

    It is stricter than ``check_username``: users of older versions may be called ``.`` or ``..``, and keep their
    names. Neither can stand in the path of a URL, nor in an event name, where it would be the segment of its user."""
    if check_username(username) in (".", ".."):
        raise BadRequest("username: it must not be . or .. (browsers rewrite such paths); choose another name")
    return username


def check_password_size(password: str) -> None:
    """As it was sent, and before anything is computed from it: to normalise or to hash a long text takes long, and
    anybody may send one. Raises BadRequest."""
    if len(password.encode()) > PASSWORD_BYTES_MAX:
        raise BadRequest(f"password: longer than {PASSWORD_BYTES_MAX} bytes of UTF-8")


def normal_password(password: str) -> str:
    """The password in Unicode's normal form C (RFC 8265, section 4.2): one system sends ``ä`` as one character, another
    as two, and the user means the same."""
    return unicodedata.normalize("NFC", password)


def check_password(password: str) -> str:
    """Returns the normal form of a new password. Raises BadRequest."""
    check_password_size(password)
    password = normal_password(password)
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise BadRequest(f"password: shorter than {PASSWORD_CHARACTERS_MIN} characters")
    return password
