"""Receives the other nodes' hints: LISTEN on a connection of its own, in a thread."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from psycopg import Connection

from broker.store.base import LOOK, Commit
from broker.store.postgres.database import Database
from broker.store.postgres.session import CHANNEL
from broker.store.postgres.statements import NEXT_DUE

logger = logging.getLogger("broker.store")

_NUMBER = re.compile(r"[0-9]{1,18}")  # a number of at most 18 digits fits into 64 bits
_TEST_S = 2.0  # how long ``start`` waits for its own notification
_WAIT_S = 0.5  # the longest that ``stop`` waits for the thread
_RETRY_S = 1.0


class Listener:
    """Calls ``on_commit`` when another node has committed. These calls are only hints: if a notification is lost, the
    relay finds the records when it next polls the store.

    Mutable state: whether the thread must stop. The connection belongs to the thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self._thread: threading.Thread

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        """Starts the thread, and tests whether a notification arrives. If none does, this is logged. Broker works
        without notifications, but the records of other nodes arrive later."""
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        received = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(received,), name="broker-listener", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(received.wait(), _TEST_S)
        except TimeoutError:
            logger.warning(
                "%s: NOTIFY does not arrive, as through a proxy that pools transactions; other nodes' records are "
                "found by polling (relay_poll_s)", self._database.name,
            )  # fmt: skip

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self, received: asyncio.Event) -> None:
        while not self._stop.is_set():
            try:
                with self._database.connect(listens=True) as connection:
                    self._listen(connection, received)
            except Exception as error:  # whatever it is, the thread must continue to listen
                logger.debug("listening again in %g s: %s", _RETRY_S, error)
                self._stop.wait(_RETRY_S)

    def _listen(self, connection: Connection[Any], received: asyncio.Event) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        # The test is sent on another connection, because a notification that this connection sends to itself arrives
        # through every proxy.
        with self._database.connect() as other:
            other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{self._database.node} test"))
        # Another node may have committed while this node did not listen. The hint has the head LOOK, so that the relay
        # reads the store in any case. The real head would not do, because after a fail-over it may be far behind the
        # relay's position.
        (due_us,) = connection.execute(NEXT_DUE).fetchone() or (None,)
        self._notify(Commit([], LOOK, due_us, pending_changed=True))
        while not self._stop.is_set():
            for notify in connection.notifies(timeout=_WAIT_S):
                match notify.payload.split(" "):
                    case [self._database.node, "test"]:
                        # The test has arrived, so there is no proxy that pools transactions: with such a proxy, LISTEN
                        # would have ended together with its transaction.
                        self._database.prepares = True
                        self._loop.call_soon_threadsafe(received.set)
                    case [self._database.node, _, _, _]:
                        pass  # this node's own commit, which the relay has been notified of already
                    # Everybody who may connect to the database can send notifications with any content. They do no
                    # harm: at worst, the relay reads the store, or the scheduler runs an empty transaction.
                    case [_, head, due, pending] if _NUMBER.fullmatch(head):
                        due_us = int(due) if _NUMBER.fullmatch(due) else None
                        self._notify(Commit([], int(head), due_us, pending_changed=pending == "pending"))
                if self._stop.is_set():
                    return

    def _notify(self, commit: Commit) -> None:
        self._loop.call_soon_threadsafe(self._on_commit, commit)
