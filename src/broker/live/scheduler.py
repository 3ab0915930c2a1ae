"""Wakes at the next due time and asks the store to publish what is due: only another writer of the log."""

from __future__ import annotations

import asyncio
import logging

from broker.errors import BrokerError
from broker.settings import Settings
from broker.store.base import Commit, Store

logger = logging.getLogger("broker.scheduler")

_RETRY_S = 1.0
_EARLY_S = 0.001


class Scheduler:
    """Whether a record is due the store decides, by its own clock in the writing transaction: a timer that fires early
    publishes nothing. Mutable state: the next due time, as last heard from the store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._next_due_us: int | None = None
        self._wake = asyncio.Event()

    def hint(self, commit: Commit) -> None:
        self._hear(commit.next_due_us)

    def _hear(self, next_due_us: int | None) -> None:
        """Hints of several nodes, and a read that was under way meanwhile, come in any order: of two times that are to
        come the earlier one counts. If nothing is due then after all, it costs an empty transaction; a later time in
        its place would cost a record's delay."""
        known_us = self._next_due_us
        if known_us is not None and known_us > self._store.clock() and (next_due_us is None or next_due_us >= known_us):
            return
        if next_due_us != known_us:
            self._next_due_us = next_due_us
            self._wake.set()

    async def run(self) -> None:
        while True:
            try:
                self._hear(await self._store.next_due())
                await self._publish_when_due()
            except BrokerError as error:
                logger.debug("asking again in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)

    async def _publish_when_due(self) -> None:
        """Publishes at each due time that it hears of; returns when it has slept so long that it should ask again."""
        while True:
            self._wake.clear()
            wait_s = self._settings.scheduler_sleep_max_s
            if self._next_due_us is not None:
                until_due_s = (self._next_due_us - self._store.clock()) / 1e6
                if until_due_s <= 0:
                    due_us = self._next_due_us
                    await self._store.publish_due()  # its commit hints at the next due time, before it returns
                    if self._next_due_us == due_us:  # it is not due yet by the store's own clock, which is another
                        await asyncio.sleep(_EARLY_S)
                    continue
                wait_s = min(wait_s, until_due_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                if wait_s == self._settings.scheduler_sleep_max_s:
                    return
