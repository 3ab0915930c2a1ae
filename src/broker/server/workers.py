"""Starts the processes that the settings ask for: one, or several workers.

Several workers share one port, and each of them is a node that uses the same PostgreSQL database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from broker.errors import SettingsError
from broker.server.listeners import listening, raise_file_limit
from broker.server.run import log_address, serve, set_up_logging
from broker.server.signals import on_signals
from broker.server.tls import server_context
from broker.settings import Settings, read_settings

logger = logging.getLogger("broker.workers")

_PAUSE_S = 0.5  # before a worker is started again; doubled after each start that fails
_PAUSE_MAX_S = 5.0
_PATIENCE_S = 3.0  # how long a worker may still run after its grace period before it is killed
# The worker ignores SIGHUP before it does anything else. A SIGHUP that is sent to all processes of a service may arrive
# before the modules are loaded, and would end the worker.
_WORK = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from broker.server.workers import work; work()"


async def broker_run(*origins: str, **settings: Any) -> None:
    """Serves until SIGTERM or Ctrl-C, for web pages of the given origins. Raises SettingsError.

    ``settings`` are fields of ``Settings``, by name; the other settings are read from the environment."""
    set_up_logging()
    if origins:
        settings["origin"] = origins
    await run(read_settings(settings))


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises SettingsError."""
    if settings.workers == 1:
        await serve(settings)
        return
    raise_file_limit()
    server_context(settings)
    # The workers bind the port with SO_REUSEPORT, which lets several processes share it. But then another program that
    # uses this option for the same port would share it, too, and get some of the connections. So the port is first
    # bound without the option, which fails if any other program listens on it. Then it is freed again.
    with listening(settings):
        pass
    # These sockets are bound but never listen, so they get no connections. They keep the port reserved while workers
    # end and are started again.
    with listening(settings, shared=True) as reserved:
        await Supervisor(settings, reserved[0].getsockname()[1]).run()


class Orders(msgspec.Struct):
    """What the supervisor sends to a worker that it starts."""

    number: int
    verbose: bool
    # The settings include where each value came from, so that a worker reports a wrong setting as a single process
    # would.
    settings: Settings


class _News(msgspec.Struct):
    """What a worker reports: the address and the location of the data if it serves, or the reason why it cannot."""

    address: str = ""
    place: str = ""
    refusal: str = ""


def pack_orders(orders: Orders) -> bytes:
    """Encodes the orders as one line of JSON. Paths are written in hexadecimal: JSON has no type for them, and their
    bytes need not be UTF-8."""
    return msgspec.json.encode(orders, enc_hook=lambda path: os.fsencode(path).hex()) + b"\n"


def unpack_orders(line: bytes) -> Orders:
    return msgspec.json.decode(line, type=Orders, dec_hook=lambda _, text: Path(os.fsdecode(bytes.fromhex(text))))


class Supervisor:
    """Starts the workers, replaces each worker that ends, and stops all of them in the end.

    Mutable state: the process of each worker by the worker's number (``_processes``), the numbers of the workers that
    serve (``_serving``), and how many SIGHUPs came (``_hangups``)."""

    def __init__(self, settings: Settings, port: int) -> None:
        self._settings = replace(settings, port=port)
        self._processes: dict[int, Process] = {}
        self._serving: set[int] = set()
        self._hangups = 0

    async def run(self) -> None:
        """Runs until SIGTERM or Ctrl-C. Raises SettingsError if a worker fails its first start."""
        keeping = asyncio.create_task(self._keep_all())
        with on_signals(self._hang_up, signal.SIGHUP), on_signals(keeping.cancel, signal.SIGINT, signal.SIGTERM):
            try:
                await asyncio.wait({keeping})
                if not keeping.cancelled():
                    keeping.result()  # raises the error of the worker that failed
                logger.info("stopping")
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await asyncio.gather(*(self._end(process) for process in self._processes.values()))

    def _hang_up(self) -> None:
        """Passes a SIGHUP on to the workers, which then reload their TLS files.

        A worker that is still starting gets the signal once it serves: see ``_start``."""
        self._hangups += 1
        for number in self._serving:
            # If the worker has just ended, the one that replaces it reads the files when it starts.
            with contextlib.suppress(ProcessLookupError):
                self._processes[number].send_signal(signal.SIGHUP)

    async def _keep_all(self) -> None:
        """Starts all workers, and keeps them running until it is cancelled. Raises SettingsError."""
        for number in range(1, self._settings.workers + 1):
            news = await self._start(number)
        settings = self._settings
        log_address(news.address, news.place, settings, f" with {settings.workers} workers")
        async with asyncio.TaskGroup() as keepers:
            for number in self._processes:
                keepers.create_task(self._keep(number))

    async def _start(self, number: int) -> _News:
        """Starts a worker, and returns when the worker serves. Raises SettingsError with the reason if that fails."""
        # With the option -P, Python does not import modules of the current folder by mistake. The worker has a session
        # of its own, so that Ctrl-C reaches the supervisor only.
        hangups = self._hangups
        process = self._processes[number] = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _WORK,
            stdin=PIPE, stdout=PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        message = Orders(number, logger.isEnabledFor(logging.DEBUG), self._settings)
        # The orders are not passed as arguments, because they contain secrets, and every user of this machine can read
        # the arguments of a process. The pipe stays open as long as the supervisor runs: when the pipe is closed, the
        # worker knows that its supervisor has ended.
        process.stdin.write(pack_orders(message))
        line = await process.stdout.readline()
        if not line:
            raise SettingsError(f"worker {number} ended with status {await process.wait()}; its log says why")
        news = msgspec.json.decode(line, type=_News)
        if news.refusal:
            await process.wait()
            raise SettingsError(news.refusal)
        self._serving.add(number)
        if self._hangups != hangups:
            process.send_signal(signal.SIGHUP)
        return news

    async def _keep(self, number: int) -> None:
        while True:
            status = await self._processes[number].wait()
            self._serving.discard(number)
            logger.error("worker %d ended with status %d; it will be started again", number, status)
            pause_s = _PAUSE_S
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await self._start(number)
                    break
                except SettingsError as error:
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                    logger.error("worker %d does not start: %s; next attempt in %g s", number, error, pause_s)
            logger.info("worker %d serves", number)

    async def _end(self, process: Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._settings.shutdown_grace_s + _PATIENCE_S)
        except TimeoutError:
            logger.error("worker with process id %d does not stop; killing it", process.pid)
            process.kill()
            await process.wait()


def work() -> None:
    """Runs a worker process. It reads its orders as one line from standard input.

    It then writes one line to standard output: that it serves, or why it cannot."""
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        orders = unpack_orders(pipe.readline())
    set_up_logging(verbose=orders.verbose, name=f"worker {orders.number}")
    try:
        uvloop.run(_work(orders.settings, str(orders.number)))
    except SettingsError as error:
        _send_news(_News(refusal=str(error)))


async def _work(settings: Settings, number: str) -> None:
    def alone() -> None:
        loop.remove_reader(0)
        logger.error("the supervisor is gone; stopping")
        os.kill(os.getpid(), signal.SIGTERM)

    loop = asyncio.get_running_loop()
    # The pipe from the supervisor becomes readable when the supervisor has ended, and at no other time, because the
    # orders were read already.
    loop.add_reader(0, alone)
    await serve(settings, number, lambda address, place: _send_news(_News(address, place)))


def _send_news(news: _News) -> None:
    """Sends the news to the supervisor, which reads them from this process's standard output."""
    os.write(1, msgspec.json.encode(news) + b"\n")
