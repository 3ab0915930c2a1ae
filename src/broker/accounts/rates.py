"""The rates of inserts that the rules permit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.errors import TooManyRequests
from broker.rates import parse_rates
from broker.records import REMOVAL, Cancel, NewRecord
from broker.rules.rules import Operation, Rule, Rules
from broker.store.base import Store
from broker.users import Actor

_COUNTS_MAX = 100_000  # open windows, some 40 MB


class Rates:
    """Counts the inserts of each user, or of each address where strangers may insert, on this node.

    Mutable state: the counts of the open windows. They are kept in memory, so a restart forgets them."""

    def __init__(self, store: Store, allows: Callable[[Operation, str, Actor], bool]) -> None:
        """``allows`` says what an actor may do now."""
        self._store = store
        self._allows = allows
        self._start_counting()

    def _start_counting(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def count(self, rules: Rules, records: Sequence[NewRecord | Cancel], actor: Actor, who: str) -> None:
        """Counts the inserts of a batch. ``who`` stands for the user, or for the client. Raises TooManyRequests if
        a rule does not permit as many now. The error has the index of the first record that is too many, and says as
        ``allowed`` how many of the batch would pass now.

        What the actor may not insert is not counted: the refusal must not reveal what a rule permits to others. A batch
        that is repeated because its response was lost passes, too."""
        wanted: Counter[tuple[str, str]] = Counter()
        for index, record in enumerate(records):
            rule = self._limiting(rules, record, actor)
            if rule is None:
                continue
            key = rule.rate, str(rule.pattern)
            wanted[key] += 1
            for rate in parse_rates(rule.rate):
                if not self._limiter.test(rate, *key, who, cost=wanted[key]):
                    if await self._is_repeated(records):
                        return
                    self._refuse(rate, key, who, index)
        if wanted and len(self._storage.storage) > _COUNTS_MAX:
            self._start_counting()  # only an attack from very many addresses gets here
        for key, cost in wanted.items():
            for rate in parse_rates(key[0]):
                self._limiter.hit(rate, *key, who, cost=cost)

    def _limiting(self, rules: Rules, record: NewRecord | Cancel, actor: Actor) -> Rule | None:
        """Returns the rule that limits the rate of this insert, if there is one."""
        if type(record) is not NewRecord:
            return None
        match = rules.find(record.event)
        if match is None or not match.rule.rate:
            return None
        operation: Operation = "remove" if record.data == REMOVAL else "insert"
        return match.rule if self._allows(operation, record.event, actor) else None

    async def _is_repeated(self, records: Sequence[NewRecord | Cancel]) -> bool:
        for record in records:
            if type(record) is NewRecord and not (
                record.uuid_given and await self._store.number_of(record.event, record.uuid) is not None
            ):
                return False
        return True

    def _refuse(self, rate: RateLimitItem, key: tuple[str, str], who: str, index: int) -> None:
        wait_s = max(1, round(self._limiter.get_window_stats(rate, *key, who).reset_time - time.time()))
        error = TooManyRequests(
            f"the rule of this event permits {rate}; try again in {wait_s} seconds", retry_after_s=wait_s
        )
        error.index = index
        error.members["allowed"] = b"%d" % index
        raise error
