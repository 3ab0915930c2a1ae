"""Publishes records when they are due: it sleeps until the next due time, and then asks the store to publish all
records that are due. So the log is written not only by requests, but also by the scheduler."""

from __future__ import annotations

import asyncio
import logging

from broker.errors import BrokerError
from broker.settings import Settings
from broker.store.base import Commit, Store

logger = logging.getLogger("broker.scheduler")

_RETRY_S = 1.0
# The pause before the next attempt, if the store has found that a record is not due yet by its own clock.
_EARLY_S = 0.001


class Scheduler:
    """The scheduler does not decide whether a record is due. The store decides that by its own clock, in the
    transaction that publishes the record. So a timer that fires too early publishes nothing, and a timer that fires too
    late may find that the transaction of an insert has published the record already.

    Mutable state: the next due time, as far as this node knows it (``_next_due_us``)."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._next_due_us: int | None = None
        self._wake = asyncio.Event()

    def hint(self, commit: Commit) -> None:
        """Called in the event loop after each commit."""
        self._learn(commit.next_due_us)

    def _learn(self, next_due_us: int | None) -> None:
        """Updates the next due time.

        Several nodes send hints, and a read of the next due time may be in progress at the same time. They arrive in
        any order, so it is not known which of them is the newest. Therefore, of two times in the future the earlier one
        is kept. If no record turns out to be due at that time, this costs only an empty transaction. If the later time
        were kept, a record could be published too late."""
        known_us = self._next_due_us
        if known_us is not None and known_us > self._store.clock() and (next_due_us is None or next_due_us >= known_us):
            return
        if next_due_us != known_us:
            self._next_due_us = next_due_us
            self._wake.set()

    async def run(self) -> None:
        """Asks the store for the next due time, and publishes at each due time, until it is cancelled."""
        while True:
            try:
                self._learn(await self._store.next_due())
                await self._publish_when_due()
            except BrokerError as error:
                logger.debug("asking again in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)

    async def _publish_when_due(self) -> None:
        """Publishes at each due time. Returns after it has slept for ``scheduler_sleep_max_s`` without being woken. The
        caller then asks the store for the next due time again, because a hint may have been lost, or a clock may have
        been changed."""
        while True:
            self._wake.clear()
            wait_s = self._settings.scheduler_sleep_max_s
            if self._next_due_us is not None:
                until_due_s = (self._next_due_us - self._store.clock()) / 1e6
                if until_due_s <= 0:
                    due_us = self._next_due_us
                    # When this returns, the hint of its commit has updated the next due time already.
                    await self._store.publish_due()
                    # If the next due time is still the same after that, the record is not due yet by the store's clock.
                    # That clock may be slightly behind ``clock()``, which on PostgreSQL only estimates it.
                    if self._next_due_us == due_us:
                        await asyncio.sleep(_EARLY_S)
                    continue
                wait_s = min(wait_s, until_due_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                if wait_s == self._settings.scheduler_sleep_max_s:
                    return
