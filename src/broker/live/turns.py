"""Long work that requests ask for: one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from broker.errors import Unavailable
from broker.settings import Settings


class Turns:
    """Does the work of one request at a time, and lets some others wait.

    Mutable state: the lock of the request that has its turn, and how many requests each client has."""

    def __init__(self, what: str, settings: Settings) -> None:
        """``what`` is what the requests ask for, in words for a message."""
        self._what = what
        self._settings = settings
        self._lock = asyncio.Lock()
        self._clients: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for the turn of a request of this client. The number of requests is not limited for the client "".
        Raises Unavailable if too many requests wait, all together or of this client."""
        settings = self._settings
        if self._clients.total() >= settings.long_requests_max or (
            client and self._clients[client] >= settings.long_requests_per_address_max
        ):
            raise Unavailable(
                f"too many requests for {self._what} are waiting (long_requests_max); ask again in a moment"
            )
        self._clients[client] += 1
        try:
            async with self._lock:
                yield
        finally:
            self._clients[client] -= 1
            self._clients += Counter()  # forgets clients without a request
