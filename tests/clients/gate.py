"""A door between one library and the server: it passes bytes on, and can be closed."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


@dataclass(eq=False)
class Passage:
    """One connection through a gate."""

    client: socket.socket
    server: socket.socket
    head: bytes = b""  # of its request
    answered: bool = False
    ended_by: str = ""  # "client" or "server", once it has ended

    def cut(self) -> None:
        """Ends it as a lost server would: nothing of what the server has not sent yet comes any more."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Gate:
    """Listens on a port of its own for one library, so that a test decides when the library can come back, and sees
    what it sends. Bytes, ends and resets are passed on as they come; a closed gate refuses connections, as the port of
    a server that is down does.

    Mutable state: the listening socket and where it leads, which the test's thread owns; the passages, which the
    accepting thread adds to."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening: socket.socket | None = None
        self.port = 0
        self.passages: list[Passage] = []

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def leads_to(self, port: int) -> None:
        """Another server, from the next connection on."""
        self._to = port

    def close(self) -> None:
        """Refuses connections from now on; those that are open stay."""
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listening.close()
            self._listening = None

    def cut(self) -> None:
        for passage in self.passages:
            if not passage.ended_by:
                passage.cut()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:  # the server is down
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            passage = Passage(client, server)
            self.passages.append(passage)
            threading.Thread(target=self._pass, args=(passage,), daemon=True).start()

    def _pass(self, passage: Passage) -> None:
        up = threading.Thread(target=self._pass_up, args=(passage,), daemon=True)
        up.start()
        with suppress(OSError):
            passage.client.sendall(passage.server.recv(65536))
            passage.answered = True
        _pump(passage.server, passage.client)
        passage.ended_by = passage.ended_by or "server"
        # What was the client's end of the connection is the server's to be told of, so that its seat is free again.
        passage.cut()
        up.join()
        passage.client.close()
        passage.server.close()

    def _pass_up(self, passage: Passage) -> None:
        with suppress(OSError):
            while b"\r\n\r\n" not in passage.head:
                part = passage.client.recv(65536)
                if not part:
                    break
                passage.head += part
                passage.server.sendall(part)
        _pump(passage.client, passage.server)
        passage.ended_by = passage.ended_by or "client"
        with suppress(OSError):
            passage.server.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Passes on what comes, and then how it ended."""
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except ConnectionResetError:
        with suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    except OSError:
        pass
