"""How often somebody may try to log in or sign up."""

from __future__ import annotations

import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.errors import SettingsError, TooManyRequests
from broker.settings import Settings


class Throttle:
    """Attempts are counted before they are checked, so that a hundred at once are no way around. Several windows, each
    longer than the one before, make the delays grow.

    Mutable state: the counts of the windows that are open, in memory; a restart forgets them."""

    def __init__(self, settings: Settings) -> None:
        self._trusts = settings.trusts
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_user = _rates("login_attempts_per_user", settings.login_attempts_per_user)
        self._per_name = _rates("login_attempts_per_name", settings.login_attempts_per_name)
        self._per_address = _rates("login_attempts_per_address", settings.login_attempts_per_address)
        self._signups = _rates("signups_per_address", settings.signups_per_address)

    def log_in(self, key: str, address: str) -> None:
        """An attempt, for a user name that exists or not: both are refused alike. Raises TooManyRequests."""
        if not self._trusts(address):
            self._count(self._per_address, "login", address)
        self._count(self._per_user, "user", key, address)
        self._count(self._per_name, "name", key)

    def logged_in(self, key: str, address: str) -> None:
        """It was right: what was wrong before is forgotten."""
        for rates, of in ((self._per_user, ("user", key, address)), (self._per_name, ("name", key))):
            for rate in rates:
                self._limiter.clear(rate, *of)

    def sign_up(self, address: str) -> None:
        """Raises TooManyRequests."""
        if not self._trusts(address):
            self._count(self._signups, "signup", address)

    def _count(self, rates: list[RateLimitItem], *of: str) -> None:
        wait_s = 0.0
        for rate in rates:
            if not self._limiter.hit(rate, *of):
                wait_s = max(wait_s, self._limiter.get_window_stats(rate, *of).reset_time - time.time())
        if wait_s:
            raise TooManyRequests(
                f"too many attempts; try again in {max(1, round(wait_s))} seconds", retry_after_s=max(1, round(wait_s))
            )


def _rates(name: str, text: str) -> list[RateLimitItem]:
    try:
        rates = parse_many(text)
        if not all(rate.amount for rate in rates):
            raise ValueError("0 would let nobody in")
    except ValueError as error:
        raise SettingsError(f"{name}: {text!r}; give rates such as 5/minute; 20/hour ({error})") from None
    return rates
