"""The values of an account: User, and the grammar of user names and passwords."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

import msgspec

from broker.errors import BadRequest

PASSWORD_CHARACTERS_MIN = 8
PASSWORD_BYTES_MAX = 1_024  # hashing a longer one is work for an attacker's convenience

_USERNAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class User:
    """``info`` is JSON as sent; ``gen`` is raised to make every older token of this user invalid."""

    id: str
    username: str
    info: bytes
    password_hash: str = field(repr=False)
    gen: int = 0
    disabled: bool = False


class UserView(msgspec.Struct):
    """A user's JSON."""

    id: str
    username: str
    info: msgspec.Raw


def encode_user(user: User) -> bytes:
    return msgspec.json.encode(UserView(user.id, user.username, msgspec.Raw(user.info)))


def username_key(username: str) -> str:
    """What must be unique: names that differ by case only would be taken for each other."""
    return username.lower()


def is_username(text: str) -> bool:
    """Whether somebody may have this name."""
    return _USERNAME.match(text) is not None


def check_username(username: str) -> str:
    """Returns it. Raises BadRequest."""
    if not is_username(username):
        raise BadRequest("username: expected 1 to 64 of A-Z a-z 0-9 . _ @ + -")
    return username


def check_password_size(password: str) -> None:
    """As it was sent, and before anything is computed from it: to normalise or to hash a long text takes long, and
    anybody may send one. Raises BadRequest."""
    if len(password.encode()) > PASSWORD_BYTES_MAX:
        raise BadRequest(f"password: longer than {PASSWORD_BYTES_MAX} bytes of UTF-8")


def normal_password(password: str) -> str:
    """The password in Unicode's normal form C, as RFC 8265 (section 4.2) says: one system types ``ä`` as one character,
    another as two, and both mean the same."""
    return unicodedata.normalize("NFC", password)


def check_password(password: str) -> str:
    """Returns the normal form of a new password. Raises BadRequest."""
    check_password_size(password)
    password = normal_password(password)
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise BadRequest(f"password: shorter than {PASSWORD_CHARACTERS_MIN} characters")
    return password
