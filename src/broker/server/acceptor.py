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


async def accept(
    listener: socket, context: Callable[[], ssl.SSLContext | None], admission: Admission, make: Callable[[], Connection]
) -> None:
    """Runs until it is cancelled, which also ends the handshakes in progress. ``context`` is called for each
    connection, because certificates may be renewed while Broker serves.

    This replaces the event loop's own TLS server, which reports a connection only after its TLS handshake. With the
    event loop's server, a connection would not be counted before its handshake is complete. So thousands of connections
    that never complete it could use up all open files, in spite of the limits."""
    listener.setblocking(False)
    async with asyncio.TaskGroup() as handshakes:
        while True:
            try:
                connection, peer = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:
                await asyncio.sleep(_FULL_S)
                continue
            bound_s = admission.settings.head_timeout_s
            handshakes.create_task(_shake_hands(connection, peer[0], make(), context(), bound_s))


async def _shake_hands(
    connection: socket, address: str, protocol: Connection, context: ssl.SSLContext | None, bound_s: float
) -> None:
    """Raises nothing but CancelledError: any other error would end all handshakes."""
    loop = asyncio.get_running_loop()
    try:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connection.close)
            on_failure.callback(protocol.leave)
            if protocol.enter(address):
                await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=context,
                    ssl_handshake_timeout=bound_s, ssl_shutdown_timeout=bound_s,
                )  # fmt: skip
                on_failure.pop_all()
    except OSError:  # the handshake failed or took too long
        pass
    except Exception as error:
        loop.call_exception_handler({"message": "a TLS handshake failed", "exception": error})
