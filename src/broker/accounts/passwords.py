"""Password hashes (Argon2id), computed in threads, a bounded number at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from broker.errors import TooManyRequests

_T = TypeVar("_T")

# argon2 releases the GIL, so two threads use two cores. More would take memory, and the cores that streams need.
_THREADS = 2
_RETRY_AFTER_S = 2


class Passwords:
    """Mutable state: how many hashes are being computed or wait for a thread. It is changed in the event loop alone."""

    def __init__(self, hashes_max: int) -> None:
        # OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB, 2 passes, 1 lane.
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._hashes_max = hashes_max
        self._under_way = 0
        self._threads = ThreadPoolExecutor(_THREADS, "broker-password")
        # The hash that a password is compared with if the user does not exist, so that the response takes as long.
        self._nobody = self._hasher.hash(secrets.token_hex())

    def stop(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Raises TooManyRequests."""
        return await self._off_loop(lambda: self._hasher.hash(password))

    async def check(self, password: str, password_hash: str | None) -> bool:
        """Whether the password has this hash. None, for a user that does not exist, takes as long and is never right.

        Raises TooManyRequests."""

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
                "too many passwords are being checked; try again in a moment", retry_after_s=_RETRY_AFTER_S
            )
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # A thread cannot be interrupted. So the hash counts until the thread is done, even if the client has closed its
        # connection and this call is cancelled.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[_T]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # asyncio logs an exception that nobody retrieves, as after a cancelled call
