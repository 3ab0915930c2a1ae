"""Who somebody is: sign-up, login, renewal, and the user whose token a request carries."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.accounts.passwords import Passwords
from broker.accounts.throttle import Throttle
from broker.accounts.tokens import Tokens
from broker.errors import Forbidden, Unauthorized
from broker.records import make_uuid
from broker.settings import Settings
from broker.store.base import Store
from broker.users import (
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


class Accounts:
    """The use cases of an account. ``start`` comes before any of them, and needs a store that has started.

    Mutable state: the cache of users, in the order of their look-ups. An entry serves for ``user_age_max_s``, so a
    user that another node disables is refused here after that time at the latest."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], int]) -> None:
        """``clock`` returns microseconds since the epoch."""
        self._store = store
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

    async def sign_up(self, username: str, password: str, info: bytes, address: str = "") -> Login:
        """Creates a user, and logs the user in. ``info`` is compact JSON; ``address`` is the client's.

        Raises BadRequest, Forbidden (sign-up is closed), Conflict (the name is taken), TooManyRequests."""
        if not self._settings.signup:
            raise Forbidden("sign-up is closed on this server; ask its operator for an account")
        check_new_username(username)
        password = check_password(password)
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
        if not right or user is None or user.disabled:
            raise Unauthorized("the user name or the password is wrong")
        self._throttle.logged_in(username, address)
        return self._login(user)

    async def renew(self, token: str) -> Login:
        """Returns another token of the same session. Raises what ``authenticate`` raises, and Unauthorized if the
        session is over.

        The new token has the ``gen`` of the old one, because ``authenticate`` compares it with the user's. So the new
        token is no more valid than the old one if the user came from the cache and has been changed since."""
        user = await self.authenticate(token)
        return self._login(user, self._tokens.verify(token, self._clock() / 1e6).login_s)

    def _login(self, user: User, login_s: int | None = None) -> Login:
        """Makes a token. ``login_s`` is the time of the login in seconds since the epoch, or None if it is now."""
        now_us = self._clock()
        now_s = now_us // 1_000_000
        token, expires_s = self._tokens.make(user, now_s, now_s if login_s is None else login_s)
        return Login(user, token, expires_s, now_us)

    async def authenticate(self, token: str) -> User:
        """Returns the token's user, in a state that is at most ``user_age_max_s`` old. Raises Unauthorized, and
        Unavailable if the user has to be looked up and the store cannot be reached."""
        claims = self._tokens.verify(token, self._clock() / 1e6)
        user = await self._look_up(claims.user_id)
        if user is None or user.disabled or user.gen != claims.gen:
            raise Unauthorized("the token is not valid any more; log in again")
        return user

    async def _look_up(self, user_id: str) -> User | None:
        now_s = time.monotonic()
        cached = self._cached.get(user_id)
        if cached is not None and now_s - cached[1] <= self._settings.user_age_max_s:
            return cached[0]
        user = await self._store.user_by_id(user_id)
        self._cached[user_id] = (user, now_s)
        self._cached.move_to_end(user_id)
        if len(self._cached) > _CACHED_USERS_MAX:
            self._cached.popitem(last=False)
        return user
