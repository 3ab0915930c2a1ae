"""Who somebody is: sign-up, login, renewal, logout, and the user whose token a request carries."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from hmac import compare_digest

from msgspec import structs

from broker.accounts.keys import DAY_S, find_key, is_expired, is_key, user_id_of
from broker.accounts.passwords import Passwords
from broker.accounts.throttle import Throttle
from broker.accounts.tokens import Tokens, Use
from broker.errors import BrokerError, Conflict, Forbidden, Unauthorized, name_taken
from broker.records import make_uuid
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import Store
from broker.users import (
    ENDED_SESSIONS_MAX,
    OPERATOR,
    STRANGER_ACTOR,
    Actor,
    Key,
    Session,
    User,
    check_new_username,
    check_password,
    check_password_size,
    is_username,
    normal_password,
)

_CACHED_USERS_MAX = 10_000  # entries; some hundred bytes each
_SESSIONS_SHOWN = 10  # the newest sessions of a user, which administrators see


@dataclass(frozen=True, slots=True)
class Login:
    """A token that was just made for ``user``, and the times from which a page computes when to renew it."""

    user: User
    token: str = field(repr=False)
    session: str  # the id of the session
    expires_s: int  # seconds since the epoch
    now_us: int  # the time of the clock that decides when the token expires, in microseconds since the epoch


@dataclass(frozen=True, slots=True)
class Credential:
    """Who makes a request, as a token or an API key says."""

    user: User | None = None  # None: a stranger, without a token; or the operator
    actor: Actor = STRANGER_ACTOR
    expires_s: int | None = None  # when it expires, in seconds since the epoch; None: never


class Accounts:
    """The use cases of an account. ``start`` comes before any of them, and needs a store that has started.

    Mutable state: the cache of users, in the order of their look-ups. An entry serves for ``user_age_max_s``. What
    changes about a user is known sooner, by the records ``$user/<id>`` that the relay has read (``rights``). The age of
    an entry is the bound if the relay cannot read the log. And the tasks that note on which day a key was used."""

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
        self._noting: dict[str, asyncio.Task[None]] = {}  # by the id of the key

    async def start(self) -> None:
        """Raises SettingsError if the store's secret cannot be used, and Unavailable."""
        secret = (self._settings.token_secret or await self._store.token_secret()) + await self._store.token_salt()
        self._tokens = Tokens(secret, self._settings.token_ttl_s, self._settings.session_max_s)
        self._passwords = Passwords(self._settings.password_hashes_max)

    async def stop(self) -> None:
        """The store must have stopped, so that nothing is under way for long."""
        await asyncio.gather(*self._noting.values(), return_exceptions=True)
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
        # Looking first saves the work of a hash. Somebody else may take the name in between, so the store looks again.
        if await self._store.user_by_name(username) is not None:
            raise name_taken(username)
        password_hash = await self._passwords.hash(password)
        user = User(str(make_uuid(self._clock() // 1_000)), username, info, password_hash)
        login = self._login(user)
        await self._store.add_user(_with_session(user, login))
        self._throttle.logged_in(username, address)
        return login

    async def log_in(self, username: str, password: str, address: str = "") -> Login:
        """Checks the password. Raises Unauthorized, with the same message for an unknown user, a wrong password and a
        disabled user; and TooManyRequests."""
        user = await self._checked(username, password, address)
        if user is None or user.state.disabled:
            raise Unauthorized("the user name or the password is wrong")
        self._throttle.logged_in(username, address)
        return await self._shown(self._login(user))

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

        await self.change(actor.user_id, lambda user: end_session(user, actor.session), actor)

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
            return replace(now, password_hash=password_hash, code="").end_sessions()

        changed = await self.change(user.id, change, credential.actor)
        self._throttle.logged_in(username, address)
        return await self._shown(self._login(changed))

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
            return replace(now, password_hash=password_hash, code="").end_sessions()

        changed = await self.change(user.id, change, OPERATOR)
        self._throttle.logged_in(username, address)
        return await self._shown(self._login(changed))

    async def change(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        """Changes a user in the name of an actor. See ``Store.change_user``."""
        changed = await self._store.change_user(user_id, change, actor)
        self._cached.pop(user_id, None)
        return changed

    async def renew(self, token: str) -> Login:
        """Returns another token of the same session. Raises what ``authenticate`` raises, Forbidden for an API key, and
        Unauthorized if the session is over.

        The new token has the ``gen`` of the old one, because ``authenticate`` compares it with the user's. So the new
        token is no more valid than the old one if the user came from the cache and has been changed since."""
        credential = await self.authenticate(token)
        user = person_of(credential)
        claims = self._tokens.verify(token, self._clock() / 1e6)
        return await self._shown(self._login(user, claims.login_s, credential.actor))

    def derive(self, credential: Credential, token: str, use: Use) -> Login:
        """Returns a token of the same session for another use, which expires no later than this one. ``credential`` is
        what ``authenticate`` has returned for this token. Raises Forbidden for an API key, and Unauthorized."""
        user = person_of(credential)
        now_us = self._clock()
        now_s = now_us // 1_000_000
        claims = self._tokens.verify(token, now_us / 1e6)
        expires_s = claims.expires_s
        if use == "ticket":
            expires_s = min(expires_s, now_s + self._settings.ticket_ttl_s)
        return Login(user, self._tokens.derive(claims, use, now_s, expires_s), claims.actor.session, expires_s, now_us)

    async def _shown(self, login: Login) -> Login:
        """Adds the session of a login or of a renewal to those that administrators see. They are only shown, and decide
        nothing. So if the store cannot write now, the login succeeds nevertheless."""
        with contextlib.suppress(BrokerError):
            await self.change(login.user.id, lambda user: _with_session(user, login), OPERATOR)
        return login

    def _login(self, user: User, login_s: int | None = None, renewed: Actor | None = None) -> Login:
        """Makes a token. ``login_s`` is the time of the login in seconds since the epoch, and ``renewed`` is who the
        old token was for; both are None if the login is now."""
        now_us = self._clock()
        now_s = now_us // 1_000_000
        session = secrets.token_hex(8)
        if renewed is not None:
            user, session = replace(user, state=structs.replace(user.state, gen=renewed.gen)), renewed.session
        token, expires_s = self._tokens.make(user, now_s, now_s if login_s is None else login_s, session)
        return Login(user, token, session, expires_s, now_us)

    async def authenticate(self, token: str, use: Use = "") -> Credential:
        """Returns whose token or API key this is. ``use``: as what it was sent. Raises Unauthorized, and Unavailable if
        the user has to be looked up and the store cannot be reached."""
        if not use and is_key(token):
            return await self._authenticate_key(token)
        claims = self._tokens.verify(token, self._clock() / 1e6, use)
        actor = claims.actor
        cached = self._look_up_cached(actor)
        user = await self._look_up(actor.user_id) if cached is None else cached[0]
        if not self._is_valid(actor, user):
            raise Unauthorized("the token is not valid any more; log in again")
        return Credential(user, actor, claims.expires_s)

    def authenticate_cached(self, token: str, use: Use = "") -> tuple[Actor, int | None] | None:
        """Does the same without waiting. Returns who it is, and when the token or the key expires. Returns None if
        there is something to wait for, or if the token or the key is not valid any more. Raises Unauthorized."""
        if not use and is_key(token):
            credential = self._check_key(token, self._cached.get(user_id_of(token) or ""))
            return None if credential is None else (credential.actor, credential.expires_s)
        claims = self._tokens.verify(token, self._clock() / 1e6, use)
        cached = self._look_up_cached(claims.actor)
        if cached is None or not self._is_valid(claims.actor, cached[0]):
            return None
        return claims.actor, claims.expires_s

    def is_own_cookie(self, token: str) -> bool:
        """Whether this server has made ``token`` for a cookie. A browser sends the cookies of a host to each of its
        ports, so a cookie may belong to another server of the same host. Then the caller ignores it."""
        return self._tokens.is_own(token, "cookie")

    async def _authenticate_key(self, text: str) -> Credential:
        """Raises Unauthorized with the same message whatever is wrong with the key."""
        user_id = user_id_of(text)
        if user_id is not None:
            credential = self._check_key(text, self._cached.get(user_id))
            if credential is None:  # or not any more, or not yet: another node may have changed the user
                user = await self._look_up(user_id)
                if user is None:
                    del self._cached[user_id]  # ids that are made up would displace those of users
                credential = self._check_key(text, (user, time.monotonic()), noting=True)
            if credential is not None:
                return credential
        raise Unauthorized(
            "the API key is not valid: it is wrong, has expired, or was revoked; or its program is disabled"
        )

    def _check_key(
        self, text: str, cached: tuple[User | None, float] | None, *, noting: bool = False
    ) -> Credential | None:
        """Returns whose key this is, if a user who was looked up at this time has it. ``noting``: whether it is noted
        that the key was used today. Otherwise None is returned if it has to be noted."""
        if cached is None or cached[0] is None or time.monotonic() - cached[1] > self._settings.user_age_max_s:
            return None
        user, now_s = cached[0], self._clock() // 1_000_000
        key = find_key(user, text)
        if key is None or is_expired(key, now_s):
            return None
        actor = Actor(user.id, user.username, user.state.gen, key.id)
        if not self._is_valid(actor, user):
            return None
        if (key.used_day or 0) < now_s // DAY_S:  # the clock of another node may be a day ahead
            if not noting:
                return None
            self._note_use(user.id, key, now_s // DAY_S)
        return Credential(user, actor, key.until_s)

    def _note_use(self, user_id: str, key: Key, day: int) -> None:
        """Notes in the background on which day a key was used last. Nobody waits for it, and if the store cannot write
        now, the next use tries again."""

        def used(user: User) -> User:
            keys = (structs.replace(each, used_day=day) if each.id == key.id else each for each in user.keys)
            return replace(user, keys=tuple(keys))

        async def note() -> None:
            try:
                with contextlib.suppress(BrokerError):
                    await self.change(user_id, used, OPERATOR)
            finally:
                del self._noting[key.id]

        if key.id not in self._noting:
            self._noting[key.id] = asyncio.create_task(note(), name="note the use of a key")

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


def person_of(credential: Credential) -> User:
    """Returns the user who makes a request, with a token. Raises Forbidden for an API key and for the operator, who
    have no session."""
    if credential.user is None or credential.user.is_key:
        raise Forbidden("this is for users who have logged in with a password")
    return credential.user


def end_session(user: User, session: str) -> User:
    """Makes the tokens of a session, or an API key, invalid. "": that of a token of an older version, which has no
    name, so that all sessions end."""
    ended = user.state.ended
    if not session or len(ended) >= ENDED_SESSIONS_MAX:
        return user.end_sessions()
    sessions = tuple(each for each in user.sessions if each.id != session)
    return replace(user, state=structs.replace(user.state, ended=(*ended, session)), sessions=sessions)


def _with_session(user: User, login: Login) -> User:
    """Returns the user with the session of this login, unless it has ended meanwhile."""
    if not Actor(user.id, user.username, login.user.state.gen, login.session).is_valid(user.state):
        return user
    now_s = login.now_us // 1_000_000
    before = next((each for each in user.sessions if each.id == login.session), None)
    session = Session(login.session, now_s if before is None else before.login_s, login.expires_s)
    others = [each for each in user.sessions if each.id != login.session and each.until_s > now_s]
    return replace(user, sessions=(*others[1 - _SESSIONS_SHOWN :], session))


def digest_of(code: str) -> str:
    """What is stored of a code. It is random and long, so a fast hash is enough."""
    return sha256(code.encode(errors="surrogatepass")).hexdigest()
