"""Accepts TLS connections, and counts each of them before its handshake."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from socket import socket

from broker.server.admission import Admission
from broker.server.connection import Connection

_FULL_S = 0.1  # pause before the next attempt, if accepting failed because the limit of open files was reached


class Acceptor:
    """Replaces the event loop's own TLS server, which reports a connection only after its TLS handshake.

    With the event loop's server, a connection would not be counted before its handshake is complete. So thousands of
    connections that never complete it could use up all open files, in spite of the limits.

    Mutable state: the task that accepts connections. The handshakes in progress are its children, and end with it."""

    def __init__(
        self,
        listener: socket,
        context: Callable[[], ssl.SSLContext | None],
        admission: Admission,
        make: Callable[[], Connection],
    ) -> None:
        """``context`` is called for each connection, because certificates may be renewed while Broker serves."""
        self._listener = listener
        self._context = context
        self._admission = admission
        self._make = make
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, return_exceptions=True)

    async def _accept(self) -> None:
        async with asyncio.TaskGroup() as handshakes:
            while True:
                try:
                    connection, peer = await self._loop.sock_accept(self._listener)
                except OSError:
                    await asyncio.sleep(_FULL_S)
                    continue
                handshakes.create_task(self._shake_hands(connection, peer[0]))

    async def _shake_hands(self, connection: socket, address: str) -> None:
        """Raises nothing but CancelledError: any other error would end all handshakes."""
        bound_s = self._admission.settings.head_timeout_s
        protocol = self._make()
        try:
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(connection.close)
                on_failure.callback(protocol.leave)
                if protocol.enter(address):
                    await self._loop.connect_accepted_socket(
                        lambda: protocol, connection, ssl=self._context(),
                        ssl_handshake_timeout=bound_s, ssl_shutdown_timeout=bound_s,
                    )  # fmt: skip
                    on_failure.pop_all()
        except OSError:  # the handshake failed or took too long
            pass
        except Exception as error:
            self._loop.call_exception_handler({"message": "a TLS handshake failed", "exception": error})
