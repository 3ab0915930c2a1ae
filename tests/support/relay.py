"""A relay of bytes between a client and a server, which can fall silent as a network does: without an error."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

PIECE_BYTES = 64 << 10


class Relay:
    """Listens on a free port of the loopback interface, as long as it is entered.

    Mutable state: all bytes that clients have sent, and the connections, with those that are silent."""

    def __init__(self, port: int) -> None:
        """``port``: that of the server."""
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def count(self, text: bytes) -> int:
        """How often clients have sent this."""
        with self._lock:
            return self._sent.count(text)

    def fall_silent(self) -> None:
        """From now on, nothing more comes through the connections that exist. New ones work."""
        with self._lock:
            self._silent.update(self._sockets)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits for a connection is woken by shutdown, and not by close.
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                with self._lock:
                    self._sockets += [client, server]
                threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                with self._lock:
                    if from_client:
                        self._sent += piece
                    if source in self._silent:
                        continue
                target.sendall(piece)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
