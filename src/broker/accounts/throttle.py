"""The limits on attempts to log in and to sign up."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.addresses import client_key
from broker.errors import TooManyRequests
from broker.rates import parse_rates
from broker.settings import Settings
from broker.users import username_key

_KNOWN_MAX = 10_000  # pairs of a user name and a client
_COUNTS_MAX = 100_000  # open windows, some 40 MB


class _Counts(MemoryStorage):
    """``MemoryStorage.clear`` removes the key. That races with the library's own thread, which looks at the keys to
    expire them; so here the count is set to 0 instead."""

    def clear(self, key: str) -> None:
        self.storage[key] = 0


class Throttle:
    """An attempt is counted before the password is checked, so that a hundred attempts at once do not all pass. A limit
    has several windows, each longer than the one before, so that the delays grow.

    Mutable state: the counts of the open windows, and from which clients users have logged in. It is kept in memory,
    so a restart forgets it."""

    def __init__(self, settings: Settings) -> None:
        self._trusts = settings.trusts
        self._start_counting()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # pairs of a name's digest and a client's key
        self._per_user = parse_rates(settings.login_attempts_per_user)
        self._per_name = parse_rates(settings.login_attempts_per_name)
        self._per_address = parse_rates(settings.login_attempts_per_address)
        self._signups = parse_rates(settings.signups_per_address)

    def _start_counting(self) -> None:
        self._storage = _Counts()
        self._limiter = FixedWindowRateLimiter(self._storage)

    def log_in(self, username: str, address: str) -> None:
        """Counts an attempt. Whether the user name exists makes no difference. Raises TooManyRequests."""
        name, client = _digest(username), client_key(address)
        if not self._trusts(address):
            self._count(self._per_address, "login", client)
        self._count(self._per_user, "user", name, client)
        # A client from which this user has logged in before is exempt. Otherwise, guessers at other addresses could
        # keep the user out.
        if (name, client) not in self._known:
            self._count(self._per_name, "name", name)

    def logged_in(self, username: str, address: str) -> None:
        """Forgets the failed attempts for this user, after one that succeeded."""
        name, client = _digest(username), client_key(address)
        for rates, key in ((self._per_user, ("user", name, client)), (self._per_name, ("name", name))):
            for rate in rates:
                self._limiter.clear(rate, *key)
        self._known[name, client] = None
        self._known.move_to_end((name, client))
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)

    def sign_up(self, address: str) -> None:
        """Counts an attempt. Raises TooManyRequests."""
        if not self._trusts(address):
            self._count(self._signups, "signup", client_key(address))

    def _count(self, rates: Iterable[RateLimitItem], *key: str) -> None:
        """Raises TooManyRequests if one of the windows of ``key`` is full."""
        # Only an attack from very many addresses gets here. All counts start again, because memory must stay bounded.
        if len(self._storage.storage) > _COUNTS_MAX:
            self._start_counting()
        wait_s = 0.0
        for rate in rates:
            if not self._limiter.hit(rate, *key):
                wait_s = max(wait_s, self._limiter.get_window_stats(rate, *key).reset_time - time.time())
        if wait_s:
            raise TooManyRequests(
                f"too many attempts; try again in {max(1, round(wait_s))} seconds", retry_after_s=max(1, round(wait_s))
            )


def _digest(username: str) -> str:
    """A key of the same small size for every user name, also for one of a megabyte."""
    return hashlib.blake2b(username_key(username).encode(errors="surrogatepass"), digest_size=16).hexdigest()
