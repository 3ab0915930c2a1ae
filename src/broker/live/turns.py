"""Long work that requests ask for: one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from broker.errors import Unavailable

_WAITING_MAX = 64
_EACH_MAX = 4


class Turns:
    """Does the work of one request at a time, and lets some others wait.

    Mutable state: the lock of the request that has its turn, and how many requests each client has."""

    def __init__(self, what: str) -> None:
        """``what`` is what the requests ask for, in words for a message."""
        self._what = what
        self._lock = asyncio.Lock()
        self._clients: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for the turn of a request of this client. The number of requests is not limited for the client "".
        Raises Unavailable if too many requests wait, all together or of this client."""
        if self._clients.total() >= _WAITING_MAX or (client and self._clients[client] >= _EACH_MAX):
            raise Unavailable(f"too many requests for {self._what} are waiting; ask again in a moment")
        self._clients[client] += 1
        try:
            async with self._lock:
                yield
        finally:
            self._clients[client] -= 1
            self._clients += Counter()  # forgets clients without a request
