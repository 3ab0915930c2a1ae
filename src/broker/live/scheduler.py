"""Sleeps until the next due time, and asks the store to publish what is due: one more writer of the log."""

from __future__ import annotations

import asyncio
import logging

from broker.errors import BrokerError
from broker.settings import Settings
from broker.store.base import Commit, Store

logger = logging.getLogger("broker.scheduler")

_RETRY_S = 1.0
_EARLY_S = 0.001  # until the next try if the store's clock says that a record is not due yet


class Scheduler:
    """A timer decides nothing. Whether a record is due is decided by the store, by its own clock, in the transaction
    that publishes it: a timer that fires early publishes nothing, and one that fires late finds that an insert has done
    its work.

    Mutable state: the next due time, as far as it is known."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._next_due_us: int | None = None
        self._wake = asyncio.Event()

    def hint(self, commit: Commit) -> None:
        """Called in the event loop after each commit."""
        self._learn(commit.next_due_us)

    def _learn(self, next_due_us: int | None) -> None:
        """The hints of several nodes, and a read that was under way meanwhile, come in any order. So of two times in
        the future the earlier one counts. If nothing is due then after all, that costs an empty transaction; a later
        time in its place would delay a record."""
        known_us = self._next_due_us
        if known_us is not None and known_us > self._store.clock() and (next_due_us is None or next_due_us >= known_us):
            return
        if next_due_us != known_us:
            self._next_due_us = next_due_us
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                self._learn(await self._store.next_due())
                await self._publish_when_due()
            except BrokerError as error:
                logger.debug("asking again in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)

    async def _publish_when_due(self) -> None:
        """Publishes at each due time. Returns when it has slept for so long that the store should be asked again: hints
        may be lost, and clocks may be set."""
        while True:
            self._wake.clear()
            wait_s = self._settings.scheduler_sleep_max_s
            if self._next_due_us is not None:
                until_due_s = (self._next_due_us - self._store.clock()) / 1e6
                if until_due_s <= 0:
                    due_us = self._next_due_us
                    await self._store.publish_due()  # before it returns, its commit has hinted at the next due time
                    if self._next_due_us == due_us:  # by the store's clock, which is another one, it is not due yet
                        await asyncio.sleep(_EARLY_S)
                    continue
                wait_s = min(wait_s, until_due_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                if wait_s == self._settings.scheduler_sleep_max_s:
                    return
