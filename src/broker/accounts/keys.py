"""API keys: how they are written, made and checked. Pure functions, but for the random numbers of a new key."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from uuid import UUID

from broker.users import Key, User

KEYS_MAX = 2  # keys that a user has at the same time: the one in use, and the one that replaces it
DAY_S = 86_400

# The prefix lets programs that look for secrets in source code find the key. The id consists of 8 random digits and of
# the user's id, so that the user is found by a look-up that there is for tokens anyway.
_KEY = re.compile(r"bk_([0-9a-f]{8})([0-9a-f]{32})_[A-Za-z0-9_-]{43}\Z")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Its text is shown once, and only its digest is stored."""

    key: Key
    text: str = field(repr=False)


def make_key(user_id: str, now_s: int, until_s: int | None) -> NewKey:
    """Returns a new key for the user with this id. It has 256 random bits, so a fast hash of it is enough."""
    key_id = secrets.token_hex(4) + UUID(user_id).hex
    text = f"bk_{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(Key(key_id, _digest(text), now_s, until_s), text)


def is_key(token: str) -> bool:
    """Whether a text that was sent as a token is meant as an API key."""
    return token.startswith("bk_")


def user_id_of(text: str) -> str | None:
    """Returns the id of the user to whom a key, or its id, would belong; None if this cannot be a key or an id."""
    match = _KEY.match(text if is_key(text) else f"bk_{text}_{'x' * 43}")
    return None if match is None else str(UUID(match[2]))


def find_key(user: User, text: str) -> Key | None:
    """Returns the user's key with this text."""
    digest = _digest(text)
    return next((key for key in user.keys if compare_digest(key.digest, digest)), None)


def is_expired(key: Key, now_s: float) -> bool:
    return key.until_s is not None and key.until_s <= now_s


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
