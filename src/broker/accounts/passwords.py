"""Argon2id off the event loop, bounded in number."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from broker.errors import TooManyRequests

_T = TypeVar("_T")

_THREADS = 2  # argon2 gives up the GIL; more threads would only take memory and the cores that streams need
_RETRY_AFTER_S = 2


class Passwords:
    """Mutable state: how many hashes are under way or wait, counted in the event loop."""

    def __init__(self, hashes_max: int) -> None:
        # OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB, 2 passes, 1 lane.
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._hashes_max = hashes_max
        self._under_way = 0
        self._threads = ThreadPoolExecutor(_THREADS, "broker-password")
        # Checked for unknown users, so that the answer takes as long as for known ones.
        self._nobody = self._hasher.hash(secrets.token_hex())

    def stop(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Raises TooManyRequests."""
        return await self._off_loop(lambda: self._hasher.hash(password))

    async def check(self, password: str, password_hash: str | None) -> bool:
        """None, for an unknown user, takes as long and is never right. Raises TooManyRequests."""

        def check() -> bool:
            try:
                self._hasher.verify(password_hash or self._nobody, password)
            except argon2.exceptions.VerifyMismatchError:
                return False
            return password_hash is not None

        return await self._off_loop(check)

    async def _off_loop(self, work: Callable[[], _T]) -> _T:
        if self._under_way >= self._hashes_max:
            raise TooManyRequests(
                "too many passwords are being checked; ask again in a moment", retry_after_s=_RETRY_AFTER_S
            )
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Counted until the thread is done, also when the client has gone away meanwhile.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[_T]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # heard, also when nobody awaits it any more
