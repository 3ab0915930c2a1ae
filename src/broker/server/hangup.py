"""SIGHUP, which ends a process unless it is handled: Broker reads its TLS files anew, as servers do."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def ignore_hangups() -> None:
    """Until ``on_hangup``: what would be read anew has not been read yet."""
    # Not a function that does nothing: when Python ends, it gives such signals back to the system, which ends the
    # process, also in the middle of a clean stop.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def on_hangup(call: Callable[[], None]) -> Iterator[None]:
    """``call`` is called in the running loop for each SIGHUP. In a thread nothing is done: the host has the signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGHUP, lambda number, frame: loop.call_soon_threadsafe(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before if before is not None else signal.SIG_DFL)
