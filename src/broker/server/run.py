"""Runs one process of the server: starts the parts of Broker and Uvicorn in order, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn

from broker.addresses import spellings
from broker.broker import Broker
from broker.errors import BrokerError, SettingsError
from broker.server.acceptor import accept
from broker.server.admission import Admission
from broker.server.connection import Connection, OperatorConnection
from broker.server.control import control_socket
from broker.server.listeners import address_of, listening, raise_file_limit
from broker.server.rules_file import apply_rules_file
from broker.server.safety import check_safety, invitation, remind
from broker.server.signals import on_signals
from broker.server.tls import server_context
from broker.settings import Settings
from broker.web.app import App
from broker.web.console import console_path
from broker.web.credentials import OPERATOR_KEY, OPERATOR_MARK

logger = logging.getLogger("broker.server")


def set_up_logging(*, verbose: bool = False, name: str = "") -> None:
    """Logs to standard error, unless the program that contains Broker has already configured logging.

    ``name`` is put before each message, so that the log shows which of several worker processes has logged it."""
    if logging.getLogger().handlers:
        return
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s {name and name + ': '}%(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # Uvicorn warns about each client that does not speak HTTP
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # psycopg warns when it cannot clean up a lost connection


def log_address(address: str, place: str, settings: Settings, how: str = "") -> None:
    """Logs that Broker serves: at which address, where its data is, and what is at ``/``. ``how`` is added to the
    address."""
    logger.info("Broker serves on %s%s (Ctrl-C stops it); data in %s", address, how, place)
    if settings.static is not None:
        logger.info("%s/ shows the front-end in %s", address, settings.static)
    if (console := console_path(settings)) is not None:
        logger.info("Console: %s%s", address, console)
    if settings.static is None:  # with a front-end, a browser that opens /docs gets the front-end
        logger.info("API documentation: %s/docs", address)


async def serve(settings: Settings, worker: str = "", serving: Callable[[str, str], None] | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises SettingsError.

    ``worker`` is the name of this process if several worker processes share the port, otherwise empty. ``serving`` is
    called once connections are accepted, with the address of the server and the location of the data; without it, they
    are logged."""
    serving = serving or partial(log_address, settings=settings)
    raise_file_limit()
    broker = Broker(settings)
    app = App(broker, worker)
    config = uvicorn.Config(
        app, ws="none", lifespan="off", loop="none",
        forwarded_allow_ips=spellings(settings.trusted_proxies), server_header=False, access_log=False,
        log_config=None, backlog=settings.backlog,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )  # fmt: skip
    config.load()
    reading: set[asyncio.Task[None]] = set()  # the rules file, after SIGHUPs; the loop itself keeps no task alive
    with on_signals(partial(_reload, config, broker, settings, reading), signal.SIGHUP):
        config.ssl = server_context(settings)
        # The objects that exist by now stay in memory until the end, so garbage collections need not visit them.
        gc.freeze()
        admission = Admission(settings, broker.hub)
        with listening(settings, shared=bool(worker)) as listeners:
            async with broker.lifespan():
                await apply_rules_file(broker, settings)
                check_safety(broker, settings, listeners)
                server = Server(config, app, admission, address_of(settings, listeners), serving)
                # It is removed while the folder is still locked: afterwards it may be the socket of another server.
                with contextlib.nullcontext() if settings.database else control_socket(settings.data) as control:
                    server.control = control
                    server.invites = not worker and sys.stderr.isatty()
                    await _run(server, broker, admission, listeners)


async def _run(server: Server, broker: Broker, admission: Admission, listeners: list[socket.socket]) -> None:
    tasks = [
        asyncio.create_task(admission.sweep(lambda: server.server_state.connections)),
        asyncio.create_task(remind(broker, broker.settings, listeners)),
    ]
    try:
        await server.serve(listeners)
    finally:
        for task in tasks:
            task.cancel()


def _reload(config: uvicorn.Config, broker: Broker, settings: Settings, reading: set[asyncio.Task[None]]) -> None:
    """Reads the rules file and the TLS files again, after a SIGHUP. The latter are for new connections only."""
    if settings.rules is not None and broker.running:
        task = asyncio.get_running_loop().create_task(_reload_rules(broker, settings), name="rules file")
        reading.add(task)
        task.add_done_callback(reading.discard)
    try:
        config.ssl = server_context(settings)
    except SettingsError as error:
        logger.error("SIGHUP: %s; the certificate that was loaded before stays in use", error)
        return
    if config.ssl is not None:
        logger.info("SIGHUP: new connections get the certificate in %s", settings.tls_certificate)
    elif settings.rules is None:
        logger.info("SIGHUP: there is nothing to reload, as TLS is off; other settings need a restart")


async def _reload_rules(broker: Broker, settings: Settings) -> None:
    try:
        await apply_rules_file(broker, settings)
    except SettingsError as error:
        logger.error("SIGHUP: %s; the rules stay as they are", error)
    except BrokerError as error:
        logger.error("SIGHUP: the rules file was not applied: %s", error)


class Server(uvicorn.Server):
    """Uvicorn's server, with TLS connections that ``acceptor.py`` accepts, and with a stop that closes the streams
    first.

    When Uvicorn stops, it waits until the open connections have ended. A stream does not end by itself, so this
    class starts to close the streams before Uvicorn waits."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        admission: Admission,
        address: str,
        serving: Callable[[str, str], None],
    ) -> None:
        super().__init__(config)
        self.servers = []
        self.control: socket.socket | None = None  # the operator's socket
        self.invites = False  # whether the start prints on a terminal how to become the first administrator
        self._accepting: list[asyncio.Task[None]] = []  # the tasks that accept TLS connections
        self._app = app
        self._broker = app.broker
        self._admission = admission
        self._address = address
        self._serving = serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Does the same as Uvicorn's method, except that TLS connections are accepted by ``acceptor.py``."""
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            if self.config.ssl is not None:
                listener.listen(self.config.backlog)
                accepting = accept(listener, lambda: self.config.ssl, self._admission, self._connection)
                self._accepting.append(loop.create_task(accepting))
            else:
                server = await loop.create_server(self._connection, sock=listener, backlog=self.config.backlog)
                self.servers.append(server)
        if self.control is not None:
            self.servers.append(await loop.create_unix_server(self._operator_connection, sock=self.control))
        self.started = True
        self._serving(self._address, self._broker.store.place)
        if self.invites and (text := invitation(self._broker, self._address, console_path(self._broker.settings))):
            print(text, file=sys.stderr)  # and not logged, because logs are kept, and it has a secret

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, {}, admission=self._admission, direct=self._app.direct)

    def _operator_connection(self) -> OperatorConnection:
        state = {OPERATOR_KEY: OPERATOR_MARK}
        return OperatorConnection(self.config, self.server_state, state, admission=self._admission)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("stopping")
        for task in self._accepting:
            task.cancel()
        closing = asyncio.ensure_future(self._broker.close_streams())
        # Requests in progress are still answered, if that takes no longer than the grace period.
        await super().shutdown(sockets)
        await closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops the server on SIGINT and SIGTERM, so that the process then ends normally.

        Uvicorn would raise the signals that it has captured again after the stop, so they are forgotten."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()
