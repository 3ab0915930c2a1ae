"""The rates of inserts that the rules permit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.errors import TooManyRequests
from broker.rates import parse_rates
from broker.records import Cancel, NewRecord
from broker.rules.rules import Rules

_COUNTS_MAX = 100_000  # open windows, some 40 MB


class Rates:
    """Counts the inserts of each user, or of each address where strangers may insert, on this node.

    Mutable state: the counts of the open windows, and the rates that were parsed. They are kept in memory, so a restart
    forgets them."""

    def __init__(self) -> None:
        self._parsed: dict[str, list[RateLimitItem]] = {}
        self._start_counting()

    def _start_counting(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    def count(self, rules: Rules, records: Sequence[NewRecord | Cancel], who: str) -> None:
        """Counts the inserts of a batch. ``who`` stands for the user, or for the client. Raises TooManyRequests if
        a rule does not permit as many now. The error has the index of the first record that is too many, and says as
        ``allowed`` how many of the batch would pass now."""
        wanted: Counter[tuple[str, str]] = Counter()
        for index, record in enumerate(records):
            match = rules.find(record.event) if type(record) is NewRecord else None
            if match is None or not match.rule.rate:
                continue
            key = match.rule.rate, str(match.rule.pattern)
            wanted[key] += 1
            for rate in self._rates(match.rule.rate):
                if not self._limiter.test(rate, *key, who, cost=wanted[key]):
                    self._refuse(rate, key, who, index)
        if wanted and len(self._storage.storage) > _COUNTS_MAX:
            self._start_counting()  # only an attack from very many addresses gets here
        for key, cost in wanted.items():
            for rate in self._rates(key[0]):
                self._limiter.hit(rate, *key, who, cost=cost)

    def _rates(self, text: str) -> list[RateLimitItem]:
        rates = self._parsed.get(text)
        if rates is None:
            rates = self._parsed[text] = parse_rates(text)
        return rates

    def _refuse(self, rate: RateLimitItem, key: tuple[str, str], who: str, index: int) -> None:
        wait_s = max(1, round(self._limiter.get_window_stats(rate, *key, who).reset_time - time.time()))
        error = TooManyRequests(
            f"the rule of this event permits {rate}; try again in {wait_s} seconds", retry_after_s=wait_s
        )
        error.index = index
        error.members["allowed"] = b"%d" % index
        raise error
