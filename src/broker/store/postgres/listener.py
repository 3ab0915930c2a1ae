"""Hears of the other nodes' commits: LISTEN on a connection of its own, in a thread."""

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
from broker.store.postgres.tables import NEXT_DUE

logger = logging.getLogger("broker.store")

_NUMBER = re.compile(r"[0-9]{1,18}")
_TEST_S = 2.0
_WAIT_S = 0.5  # at the longest, until it sees that it shall stop
_RETRY_S = 1.0


class Listener:
    """What it tells is a hint: the relay's poll finds what gets lost.

    Mutable state: whether it shall stop; the thread has the connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._on_commit: Callable[[Commit], None]
        self._thread: threading.Thread

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        """Tests first whether a NOTIFY arrives, and says so if not."""
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        heard = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(heard,), name="broker-listener", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(heard.wait(), _TEST_S)
        except TimeoutError:
            logger.warning(
                "%s: NOTIFY does not arrive, as through a proxy that pools transactions; other nodes' records are "
                "found by polling (relay_poll_s)", self._database.name,
            )  # fmt: skip

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self, heard: asyncio.Event) -> None:
        while not self._stop.is_set():
            try:
                with self._database.connect(listens=True) as connection:
                    self._listen(connection, heard)
            except Exception as error:  # whatever it is, it must not be the last that is heard
                logger.debug("listening again in %g s: %s", _RETRY_S, error)
                self._stop.wait(_RETRY_S)

    def _listen(self, connection: Connection[Any], heard: asyncio.Event) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        with self._database.connect() as other:  # its own would arrive through every proxy
            other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{self._database.node} test"))
        # What was committed while nobody listened. And it may be another log now, with its head far behind.
        (due_us,) = connection.execute(NEXT_DUE).fetchone() or (None,)
        self._tell(Commit([], LOOK, due_us))
        while not self._stop.is_set():
            for notify in connection.notifies(timeout=_WAIT_S):
                match notify.payload.split(" "):
                    case [self._database.node, "test"]:
                        self._database.prepares = True
                        self._loop.call_soon_threadsafe(heard.set)
                    case [self._database.node, _, _]:
                        pass  # a commit of its own, which it knows of
                    # Everybody who may connect to the database can say anything here.
                    case [_, head, due] if _NUMBER.fullmatch(head):
                        self._tell(Commit([], int(head), int(due) if _NUMBER.fullmatch(due) else None))
                if self._stop.is_set():
                    return

    def _tell(self, commit: Commit) -> None:
        self._loop.call_soon_threadsafe(self._on_commit, commit)
