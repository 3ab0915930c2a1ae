"""What an account consists of: User, what may change about it, and the rules for user names and passwords."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

import msgspec

from broker.errors import BadRequest

PASSWORD_CHARACTERS_MIN = 8
PASSWORD_BYTES_MAX = 1_024  # of UTF-8; hashing takes longer for a longer password, which an attacker would choose

_USERNAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")


ENDED_SESSIONS_MAX = 100  # ended sessions that are kept for each user; one more ends all sessions of the user


class UserState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may change about a user after the sign-up, and what every node must know of. It is the data of the reserved
    event ``$user/<id>``. A user without such an event has the default state.

    Raising ``gen`` makes all older tokens of this user invalid. ``ended`` has the ids of sessions that were logged
    out."""

    gen: int = 0
    disabled: bool = False
    roles: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


DEFAULT_STATE = UserState()


class Key(msgspec.Struct, frozen=True):
    """An API key of a user. Times are in seconds since 1970."""

    id: str
    digest: str  # the SHA-256 of the whole key
    created_s: int
    until_s: int | None = None  # when it expires; None: never
    used_day: int | None = None  # when it was used last, in days since 1970


class Session(msgspec.Struct, frozen=True):
    """A login of a user, which nothing is decided by: it is shown to administrators. Times are in seconds since
    1970."""

    id: str
    login_s: int
    until_s: int  # when its newest token expires


@dataclass(frozen=True, slots=True)
class User:
    """One user. ``info`` is JSON as it was sent. A user without a password is for programs, which send an API key
    instead (``is_key``), or was erased."""

    id: str
    username: str
    info: bytes
    password_hash: str = field(repr=False)
    state: UserState = DEFAULT_STATE
    # The SHA-256 of a code that an administrator has given the user, to set a new password with, and until when it is
    # valid, in microseconds since 1970. "": there is none.
    code: str = field(default="", repr=False)
    code_until_us: int = 0
    keys: tuple[Key, ...] = field(default=(), repr=False)
    sessions: tuple[Session, ...] = ()  # the newest ones
    erased_key: str = ""  # what is left of the name of an erased user, whose ``username`` is ""

    @property
    def is_key(self) -> bool:
        return not self.password_hash and not self.erased_key

    @property
    def name_key(self) -> str:
        """What must be different for each user."""
        return self.erased_key or username_key(self.username)

    def erase(self) -> User:
        """Returns what is kept of a user who is erased: nobody else may have the id or the name again."""
        state = UserState(gen=self.state.gen + 1, disabled=True)
        return User(self.id, "", b"null", "", state, erased_key=self.erased_key or erased_key(self.username))

    def end_sessions(self) -> User:
        """Returns the user with no valid tokens. API keys stay valid, but what was opened with them ends."""
        state = UserState(self.state.gen + 1, self.state.disabled, self.state.roles)
        return replace(self, state=state, sessions=())


class Actor(NamedTuple):
    """In whose name a request is made, as its token says. Whether the token is still valid is judged by the user's
    state, in the event loop and again in the transaction that writes."""

    user_id: str = ""
    username: str = ""  # "": a stranger, without a token; or the operator
    gen: int = 0
    session: str = ""  # the id of the login or of the API key; "": a token of an older version, which has none
    operator: bool = False  # somebody who may read the store's files, and so may do everything

    def is_valid(self, state: UserState) -> bool:
        """Whether the token is valid, if this is the state of its user. Strangers and the operator have none."""
        if not self.user_id:
            return True
        return not state.disabled and state.gen == self.gen and self.session not in (state.ended or ())

    def is_valid_or_newer(self, state: UserState) -> bool:
        """The same if the user may have another state meanwhile. ``gen`` only rises, so a token with a larger one was
        made after a change that whoever knows this state has not read yet. Then the state says nothing about it."""
        return self.gen > state.gen or self.is_valid(state)


STRANGER_ACTOR = Actor()
OPERATOR = Actor(operator=True)


class UserView(msgspec.Struct):
    """The JSON of a user (docs/http.md)."""

    id: str
    username: str
    info: msgspec.Raw


class OwnView(UserView):
    """The JSON of one's own account."""

    roles: list[str]


def encode_user(user: User, roles: Iterable[str]) -> bytes:
    """Returns the JSON of one's own account, with the roles that the user has now."""
    return msgspec.json.encode(OwnView(user.id, user.username, msgspec.Raw(user.info), sorted(roles)))


def username_key(username: str) -> str:
    """The form of a user name that must be unique, because people confuse names that differ only in case."""
    return username.lower()


def erased_key(username: str) -> str:
    """What is kept of the name of an erased user, so that it is not given to anybody else. It is no user name."""
    return f"#{sha256(username_key(username).encode()).hexdigest()}"


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

    It is stricter than ``check_username``: users of older versions keep their names. ``.`` and ``..`` can neither stand
    in the path of a URL nor in an event name, where it would be the segment of its user. ``public`` is a stranger in
    the rules."""
    if check_username(username) in (".", ".."):
        raise BadRequest("username: it must not be . or .. (browsers rewrite such paths); choose another name")
    if username.lower() == "public":
        raise BadRequest('username: "public" stands for clients without a token; choose another name')
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
