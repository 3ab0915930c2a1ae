"""How often one user may insert: the rates of the rules, and that of all inserts together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from broker.errors import TooManyRequests
from broker.rates import parse_rates
from broker.records import REMOVAL, Cancel, NewRecord
from broker.rules.rules import Operation, Rules
from broker.settings import Settings
from broker.store.base import Store
from broker.users import Actor

_COUNTS_MAX = 100_000  # open windows, some 40 MB

_Key = tuple[str, str]  # rates as text, and the pattern of the rule that has them
_EACH_USER = "$user"  # in place of a pattern, which never begins with $


class Rates:
    """Counts the inserts of each user, or of each address where strangers may insert, on this node: for the rates of
    the rules, and for the setting ``inserts_per_user``.

    Mutable state: the counts of the open windows. They are kept in memory, so a restart forgets them."""

    def __init__(self, store: Store, settings: Settings, allows: Callable[[Operation, str, Actor], bool]) -> None:
        """``allows`` says what an actor may do now."""
        self._store = store
        self._per_user = settings.inserts_per_user
        self._allows = allows
        self._start_counting()

    def _start_counting(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def count(self, rules: Rules | None, records: Sequence[NewRecord | Cancel], actor: Actor, who: str) -> None:
        """Counts the inserts of a batch. ``who`` stands for the user, or for the client. Raises TooManyRequests if
        a rate does not permit as many now. The error has the index of the first record that is too many, and says as
        ``allowed`` how many of the batch would pass now.

        What the actor may not insert is not counted: the refusal must not reveal what a rule permits to others. A batch
        that is repeated because its response was lost passes, too."""
        wanted: Counter[_Key] = Counter()
        indexes: dict[_Key, list[int]] = {}
        for index, record in enumerate(records):
            for key in self._limiting(rules, record, actor):
                wanted[key] += 1
                indexes.setdefault(key, []).append(index)
        exceeded = [
            (self._first_beyond(rate, key, who, indexes[key]), rate, key)
            for key, cost in wanted.items()
            for rate in parse_rates(key[0])
            if not self._limiter.test(rate, *key, who, cost=cost)
        ]
        if exceeded:
            if await self._is_repeated(records):
                return
            index, rate, key = min(exceeded, key=lambda each: each[0])
            self._refuse(rate, key, who, index)
        if wanted and len(self._storage.storage) > _COUNTS_MAX:
            self._start_counting()  # only an attack from very many addresses gets here
        for key, cost in wanted.items():
            for rate in parse_rates(key[0]):
                self._limiter.hit(rate, *key, who, cost=cost)

    def _limiting(self, rules: Rules | None, record: NewRecord | Cancel, actor: Actor) -> Iterator[_Key]:
        """Yields what limits the rate of this insert."""
        if type(record) is not NewRecord:
            return
        if self._per_user and not actor.operator:
            yield self._per_user, _EACH_USER
        match = None if rules is None else rules.find(record.event)
        if match is not None and match.rule.rate:
            operation: Operation = "remove" if record.data == REMOVAL else "insert"
            if self._allows(operation, record.event, actor):
                yield match.rule.rate, str(match.rule.pattern)

    def _first_beyond(self, rate: RateLimitItem, key: _Key, who: str, indexes: list[int]) -> int:
        """Returns the first of these indexes of records that a rate does not permit any more."""
        return next(
            index for cost, index in enumerate(indexes, 1) if not self._limiter.test(rate, *key, who, cost=cost)
        )

    async def _is_repeated(self, records: Sequence[NewRecord | Cancel]) -> bool:
        for record in records:
            if type(record) is NewRecord and not (
                record.uuid_given and await self._store.number_of(record.event, record.uuid) is not None
            ):
                return False
        return True

    def _refuse(self, rate: RateLimitItem, key: _Key, who: str, index: int) -> None:
        wait_s = max(1, round(self._limiter.get_window_stats(rate, *key, who).reset_time - time.time()))
        limit = "one user may insert" if key[1] == _EACH_USER else "the rule of this event permits"
        where = " (inserts_per_user)" if key[1] == _EACH_USER else ""
        error = TooManyRequests(f"{limit} {rate}{where}; try again in {wait_s} seconds", retry_after_s=wait_s)
        error.index = index
        error.members["allowed"] = b"%d" % index
        raise error
