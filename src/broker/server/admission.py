"""Limits the number of connections, and ends connections that are too slow."""

from __future__ import annotations

import asyncio
import math
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from broker.addresses import client_key
from broker.live.hub import Hub
from broker.settings import Settings

_SWEEP_S = 1.0
_SWEPT_PER_TURN = 1_000  # connections checked before other tasks get a turn; takes under a millisecond
FILES_KEPT = 100  # open files that are reserved for the database and other files, so that connections cannot use them


def file_limit() -> float:
    """Returns how many files this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if soft == resource.RLIM_INFINITY else soft


class Admission:
    """Counts connections, and checks all of them once a second, so that none needs a timer of its own.

    Mutable state: the number of connections (``_open``), and the number of connections of each client (``_by_client``).
    Streams are not included in these numbers: the hub counts them."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self.settings = settings
        self._hub = hub
        self._max = min(settings.connections_max, file_limit() - FILES_KEPT)
        self._open = 0
        self._by_client: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Counts a connection. Returns False if a limit is exceeded; the caller must call ``leave`` in either case."""
        key = client_key(address)
        self._open += 1
        self._by_client[key] += 1
        if self._open + len(self._hub.subscribers) > self._max:
            return False
        if self.settings.trusts(address):
            return True
        return self._by_client[key] + self._hub.by_client[key] <= self.settings.connections_per_address_max

    def leave(self, address: str) -> None:
        key = client_key(address)
        self._open -= 1
        self._by_client[key] -= 1
        if not self._by_client[key]:
            del self._by_client[key]

    async def sweep(self, connections: Callable[[], Iterable[Any]]) -> None:
        """Runs until it is cancelled: calls the method ``check`` of all connections once a second, with the time in
        seconds of the loop's clock."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            for number, connection in enumerate(tuple(connections()), 1):
                connection.check(loop.time())
                if number % _SWEPT_PER_TURN == 0:
                    await asyncio.sleep(0)
