"""A clock that a test can put forward or back while a server uses it."""

from __future__ import annotations

import time

HOUR_US = 3_600_000_000


class Clock:
    """The clock of this machine, which is ``ahead_us`` ahead, or behind if that is negative."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000 + self.ahead_us
