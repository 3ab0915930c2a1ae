"""Who somebody is: sign-up, login, renewal, logout, and the user whose token a request carries."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from hmac import compare_digest

from msgspec import structs

from broker.accounts.passwords import Passwords
from broker.accounts.throttle import Throttle
from broker.accounts.tokens import Claims, Tokens
from broker.errors import Conflict, Forbidden, Unauthorized
from broker.records import make_uuid
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import Store
from broker.users import (
    ENDED_SESSIONS_MAX,
    OPERATOR,
    STRANGER_ACTOR,
    Actor,
    User,
    check_new_username,
    check_password,
    check_password_size,
    is_username,
    normal_password,
)

_CACHED_USERS_MAX = 10_000  # entries; some hundred bytes each


@dataclass(frozen=True, slots=True)
class Login:
    """A token that was just made for ``user``, and the times from which a page computes when to renew it."""

    user: User
    token: str = field(repr=False)
    expires_s: int  # seconds since the epoch
    now_us: int  # the time of the clock that decides when the token expires, in microseconds since the epoch


@dataclass(frozen=True, slots=True)
class Credential:
    """Who makes a request."""

    user: User | None = None  # None: a stranger, without a token; or the operator
    actor: Actor = STRANGER_ACTOR
    expires_s: int | None = None  # when the token expires, in seconds since the epoch


class Accounts:
    """The use cases of an account. ``start`` comes before any of them, and needs a store that has started.

    Mutable state: the cache of users, in the order of their look-ups. An entry serves for ``user_age_max_s``. What
    changes about a user is known sooner, by the records ``$user/<id>`` that the relay has read (``rights``). The age of
    an entry is the bound if the relay cannot read the log."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], int], rights: Rights) -> None:
        """``clock`` returns microseconds since the epoch."""
        self._store = store
        self._rights = rights
        self._settings = settings
        self._clock = clock
        self._throttle = Throttle(settings)
        self._passwords: Passwords
        self._tokens: Tokens
        self._cached: OrderedDict[str, tuple[User | None, float]] = OrderedDict()  # by id, with the time of the look-up

    async def start(self) -> None:
        """Raises SettingsError if the store's secret cannot be used, and Unavailable."""
        secret = self._settings.token_secret or await self._store.token_secret()
        self._tokens = Tokens(secret, self._settings.token_ttl_s, self._settings.session_max_s)
        self._passwords = Passwords(self._settings.password_hashes_max)

    def stop(self) -> None:
        self._passwords.stop()

    async def sign_up(
        self, username: str, password: str, info: bytes, address: str = "", *, invited: bool = False
    ) -> Login:
        """Creates a user, and logs the user in. ``info`` is compact JSON; ``address`` is the client's. ``invited``:
        whether an administrator creates the user, which is possible while sign-up is closed.

        Raises BadRequest, Forbidden (sign-up is closed), Conflict (the name is taken), TooManyRequests."""
        if not self._settings.signup and not invited:
            raise Forbidden("sign-up is closed on this server; ask its operator for an account")
        check_new_username(username)
        password = check_password(password)
        if not invited:
            self._throttle.sign_up(address)
        # If the name is taken, the store refuses it below. Looking first saves the work of a hash; it decides nothing,
        # because somebody else may take the name in between.
        taken = await self._store.user_by_name(username) is not None
        password_hash = "" if taken else await self._passwords.hash(password)
        user = User(str(make_uuid(self._clock() // 1_000)), username, info, password_hash)
        await self._store.add_user(user)
        self._throttle.logged_in(username, address)
        return self._login(user)

    async def log_in(self, username: str, password: str, address: str = "") -> Login:
        """Checks the password. Raises Unauthorized, with the same message for an unknown user, a wrong password and a
        disabled user; and TooManyRequests."""
        user = await self._checked(username, password, address)
        if user is None or user.state.disabled:
            raise Unauthorized("the user name or the password is wrong")
        self._throttle.logged_in(username, address)
        return self._login(user)

    async def _checked(self, username: str, password: str, address: str) -> User | None:
        """Returns the user with this name and password, or None. Raises BadRequest and TooManyRequests."""
        # The password is tried in its normal form and as it was sent, because users of older versions have a hash of
        # the latter. Both are tried whoever the user is, so that the time of the response does not depend on it.
        check_password_size(password)
        spellings = dict.fromkeys((normal_password(password), password))
        self._throttle.log_in(username, address)
        # A text that cannot be a user name is not looked up: PostgreSQL refuses some characters.
        user = await self._store.user_by_name(username) if is_username(username) else None
        right = False
        for spelling in spellings:
            right = right or await self._passwords.check(spelling, user.password_hash if user else None)
        return user if right else None

    async def log_out(self, credential: Credential) -> None:
        """Ends the session of this token on all nodes. Raises Unauthorized and Unavailable."""
        actor = credential.actor

        def end_session(user: User) -> User:
            ended = user.state.ended
            if not actor.session or len(ended) >= ENDED_SESSIONS_MAX:
                return end_sessions(user)
            return replace(user, state=structs.replace(user.state, ended=(*ended, actor.session)))

        await self.change(actor.user_id, end_session, actor)

    async def change_password(self, credential: Credential, old: str, new: str, address: str = "") -> Login:
        """Gives the user another password, which ends all sessions, and logs the user in. ``address`` is the client's.
        Raises BadRequest, Forbidden if the old password is wrong, Unauthorized, TooManyRequests."""
        new = check_password(new)
        username = credential.actor.username
        user = await self._checked(username, old, address)
        if user is None or user.id != credential.actor.user_id:
            raise Forbidden("old: the password is wrong")
        password_hash = await self._passwords.hash(new)

        def change(now: User) -> User:
            if now.password_hash != user.password_hash:
                raise Conflict("the password was changed meanwhile; log in with the new one")
            return end_sessions(replace(now, password_hash=password_hash, code=""))

        changed = await self.change(user.id, change, credential.actor)
        self._throttle.logged_in(username, address)
        return self._login(changed)

    async def reset_password(self, username: str, code: str, new: str, address: str = "") -> Login:
        """Does the same with a code that an administrator has given the user. The message is the same for an unknown
        user and for a wrong code. Raises BadRequest, Unauthorized, TooManyRequests."""
        new = check_password(new)
        self._throttle.log_in(username, address)
        user = await self._store.user_by_name(username) if is_username(username) else None
        # The password is hashed for an unknown user, too, so that the response time reveals nothing.
        password_hash = await self._passwords.hash(new)
        wrong = Unauthorized("the user name or the code is wrong, or the code is too old; ask for another one")
        now_us, digest = self._clock(), digest_of(code)

        def is_right(user: User) -> bool:
            return compare_digest(user.code, digest) and user.code_until_us > now_us and not user.state.disabled

        # A wrong code begins no transaction: it would wait for those of others, which an unknown user does not.
        if user is None or not is_right(user):
            raise wrong

        def change(now: User) -> User:
            if not is_right(now):  # it counts once
                raise wrong
            return end_sessions(replace(now, password_hash=password_hash, code=""))

        changed = await self.change(user.id, change, OPERATOR)
        self._throttle.logged_in(username, address)
        return self._login(changed)

    async def change(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        """Changes a user in the name of an actor. See ``Store.change_user``."""
        changed = await self._store.change_user(user_id, change, actor)
        self._cached.pop(user_id, None)
        return changed

    async def renew(self, token: str) -> Login:
        """Returns another token of the same session. Raises what ``authenticate`` raises, and Unauthorized if the
        session is over.

        The new token has the ``gen`` of the old one, because ``authenticate`` compares it with the user's. So the new
        token is no more valid than the old one if the user came from the cache and has been changed since."""
        credential = await self.authenticate(token)
        assert credential.user is not None
        claims = self._tokens.verify(token, self._clock() / 1e6)
        return self._login(credential.user, claims.login_s, credential.actor)

    def _login(self, user: User, login_s: int | None = None, renewed: Actor | None = None) -> Login:
        """Makes a token. ``login_s`` is the time of the login in seconds since the epoch, and ``renewed`` is who the
        old token was for; both are None if the login is now."""
        now_us = self._clock()
        now_s = now_us // 1_000_000
        session = secrets.token_hex(8)
        if renewed is not None:
            user, session = replace(user, state=structs.replace(user.state, gen=renewed.gen)), renewed.session
        token, expires_s = self._tokens.make(user, now_s, now_s if login_s is None else login_s, session)
        return Login(user, token, expires_s, now_us)

    async def authenticate(self, token: str) -> Credential:
        """Returns the token's user. Raises Unauthorized, and Unavailable if the user has to be looked up and the store
        cannot be reached."""
        claims = self._tokens.verify(token, self._clock() / 1e6)
        actor = claims.actor
        cached = self._look_up_cached(actor)
        user = await self._look_up(actor.user_id) if cached is None else cached[0]
        if not self._is_valid(actor, user):
            raise Unauthorized("the token is not valid any more; log in again")
        return Credential(user, actor, claims.expires_s)

    def authenticate_cached(self, token: str) -> Claims | None:
        """Does the same without waiting. Returns None if the user has to be looked up, or if the token is not valid any
        more. Raises Unauthorized."""
        claims = self._tokens.verify(token, self._clock() / 1e6)
        cached = self._look_up_cached(claims.actor)
        return None if cached is None or not self._is_valid(claims.actor, cached[0]) else claims

    def _is_valid(self, actor: Actor, user: User | None) -> bool:
        # The cached user may be older than what the relay has read, or newer, so both count.
        known = self._rights.state(actor.user_id)
        return user is not None and actor.is_valid(user.state) and actor.is_valid_or_newer(known)

    def _look_up_cached(self, actor: Actor) -> tuple[User | None, float] | None:
        """Returns the actor's entry in the cache, or None if it is too old.

        It is also too old if the token was made after the look-up, on another node. Whoever has just set a new password
        would otherwise be refused here for some time."""
        cached = self._cached.get(actor.user_id)
        if cached is None or time.monotonic() - cached[1] > self._settings.user_age_max_s:
            return None
        return None if cached[0] is not None and actor.gen > cached[0].state.gen else cached

    async def _look_up(self, user_id: str) -> User | None:
        now_s = time.monotonic()
        user = await self._store.user_by_id(user_id)
        self._cached[user_id] = (user, now_s)
        self._cached.move_to_end(user_id)
        if len(self._cached) > _CACHED_USERS_MAX:
            self._cached.popitem(last=False)
        return user


def end_sessions(user: User) -> User:
    """Makes all tokens of a user invalid."""
    return replace(user, state=structs.replace(user.state, gen=user.state.gen + 1, ended=()))


def digest_of(code: str) -> str:
    """What is stored of a code. It is random and long, so a fast hash is enough."""
    return sha256(code.encode(errors="surrogatepass")).hexdigest()
