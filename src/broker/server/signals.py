"""Handles signals: SIGINT and SIGTERM stop Broker, and at SIGHUP it reloads its TLS files, as servers usually do.
Without a handler, SIGHUP would end the process."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def ignore_hangups() -> None:
    """Ignores SIGHUP until ``on_signals`` is used: before that, nothing has been read that could be reloaded."""
    # SIG_IGN and not an empty handler: at exit, Python restores the default action of each signal that has a Python
    # handler. A SIGHUP would then kill the process in the middle of a clean stop.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def on_signals(call: Callable[[], object], *numbers: int) -> Iterator[None]:
    """Calls ``call`` in the running event loop for each of these signals that arrives.

    Outside the main thread this does nothing: there, the program that contains Broker handles the signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(call)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
