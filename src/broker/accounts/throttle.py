"""How often somebody may try to log in or sign up."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.addresses import client_key
from broker.errors import TooManyRequests
from broker.rates import parse_rates
from broker.settings import Settings
from broker.users import username_key

_KNOWN_MAX = 10_000
_COUNTS_MAX = 100_000


class _Counts(MemoryStorage):
    """``MemoryStorage.clear`` takes the key away, which its thread that expires keys may be looking at."""

    def clear(self, key: str) -> None:
        self.storage[key] = 0


class Throttle:
    """Attempts are counted before they are checked, so that a hundred at once are no way around. Several windows, each
    longer than the one before, make the delays grow.

    Mutable state, in memory, so a restart forgets it: the counts of the windows that are open, and from where users
    logged in of late."""

    def __init__(self, settings: Settings) -> None:
        self._trusts = settings.trusts
        self._start_counting()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # names and visitors
        self._per_user = parse_rates(settings.login_attempts_per_user)
        self._per_name = parse_rates(settings.login_attempts_per_name)
        self._per_address = parse_rates(settings.login_attempts_per_address)
        self._signups = parse_rates(settings.signups_per_address)

    def _start_counting(self) -> None:
        self._storage = _Counts()
        self._limiter = FixedWindowRateLimiter(self._storage)

    def log_in(self, username: str, address: str) -> None:
        """An attempt, for a user name that exists or not: both are refused alike. Raises TooManyRequests."""
        name, origin = _digest(username), client_key(address)
        if not self._trusts(address):
            self._count(self._per_address, "login", origin)
        self._count(self._per_user, "user", name, origin)
        if (name, origin) not in self._known:  # else those who guess elsewhere would keep the user out
            self._count(self._per_name, "name", name)

    def logged_in(self, username: str, address: str) -> None:
        """It was right: what was wrong before is forgotten."""
        name, origin = _digest(username), client_key(address)
        for rates, of in ((self._per_user, ("user", name, origin)), (self._per_name, ("name", name))):
            for rate in rates:
                self._limiter.clear(rate, *of)
        self._known[name, origin] = None
        self._known.move_to_end((name, origin))
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)

    def sign_up(self, address: str) -> None:
        """Raises TooManyRequests."""
        if not self._trusts(address):
            self._count(self._signups, "signup", client_key(address))

    def _count(self, rates: list[RateLimitItem], *of: str) -> None:
        if len(self._storage.storage) > _COUNTS_MAX:  # an attack from everywhere: some 40 MB are enough for it
            self._start_counting()
        wait_s = 0.0
        for rate in rates:
            if not self._limiter.hit(rate, *of):
                wait_s = max(wait_s, self._limiter.get_window_stats(rate, *of).reset_time - time.time())
        if wait_s:
            raise TooManyRequests(
                f"too many attempts; try again in {max(1, round(wait_s))} seconds", retry_after_s=max(1, round(wait_s))
            )


def _digest(username: str) -> str:
    """As long for a name of a megabyte as for any other."""
    return hashlib.blake2b(username_key(username).encode(errors="surrogatepass"), digest_size=16).hexdigest()
