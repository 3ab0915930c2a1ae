"""One open stream: the asyncio protocol of its own socket, once the head of the response is written."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from typing import TYPE_CHECKING, Any, Protocol

from broker import sse
from broker.names import Filter
from broker.settings import KIB

if TYPE_CHECKING:
    from broker.live.hub import Group, Hub

logger = logging.getLogger("broker.stream")

_SLICE = 64 * KIB
_NOTHING = memoryview(b"")


class Transport(Protocol):
    """What a subscriber needs of an asyncio transport; ``web/stream.py`` has one over ASGI's ``send``."""

    def write(self, data: bytes | memoryview, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str, /) -> Any: ...


class Subscriber(asyncio.Protocol):
    """A live subscriber is a member of a hub's group and costs no task. One that is behind has a catch-up task.

    Mutable state: all of its own, changed by the loop's callbacks, the hub and its catch-up, never across an await."""

    __slots__ = (
        "_direct", "_drained", "_ended", "_ending", "_last_chunk", "_unwritten", "chunked", "closed", "filter", "group",
        "heartbeat_events", "hub", "paused", "position", "transport", "visitor",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, filter: Filter, *, chunked: bool, last_chunk: bool = False, heartbeat_events: bool = False,
        visitor: str = "",
    ) -> None:  # fmt: skip
        self.hub = hub
        self.visitor = visitor  # that it is counted for
        self.filter = filter
        self.heartbeat_events = heartbeat_events  # it asked for heartbeats that a page can receive
        self.chunked = chunked  # HTTP/1.1; HTTP/1.0 has no chunks, other servers make their own
        self._last_chunk = chunked and last_chunk  # whether its end is marked: see web/stream.py
        self.transport: Transport
        self._direct: socket.socket | None = None
        # Behind: the last position that was written. Live: see Hub.position.
        self.position = 0
        self.group: Group | None = None  # not None: live
        self.paused = False
        self.closed = False
        self._drained: asyncio.Future[None] | None = None
        self._unwritten = _NOTHING  # else: paused
        self._ending = False
        self._ended = False  # nothing is written any more

    def take(self, transport: Transport, *, paused: bool, direct: socket.socket | None = None) -> None:
        """From here on the transport is this subscriber's. ``paused``: it is full already, which nobody tells twice.

        ``direct``: the socket below a transport that adds nothing to it, and pauses as soon as it buffers anything."""
        self.transport = transport
        self.paused = paused
        self._direct = direct
        self.hub.add(self)

    def write(self, payload: bytes) -> None:
        """For the catch-up; the hub writes to live subscribers itself."""
        self.write_framed(sse.chunk(payload) if self.chunked else payload)

    def write_framed(self, payload: bytes) -> None:
        """The hot path: for most, one system call."""
        if self._ended:
            return
        sent = 0
        # Past the transport, which would cost a sixth of the system call itself. Not while it is paused: it holds what
        # goes first.
        if self._direct is not None and not self.paused:
            try:
                sent = self._direct.send(payload)
            except OSError:  # full, or dead: the transport finds out which
                sent = 0
            if sent == len(payload):
                return
        self._unwritten = memoryview(payload)[sent:]
        self._write_on()

    def _write_on(self) -> None:
        """In slices until the transport is full: it copies or encrypts what it takes, for each slow reader anew. The
        rest is shared by all that were written the same."""
        try:
            while True:
                part, self._unwritten = self._unwritten[:_SLICE], self._unwritten[_SLICE:]
                self.transport.write(part)
                if self.paused or not self._unwritten:
                    return
        # uvloop raises for a transport that has just closed; asyncio does not. Whatever it is, it is this subscriber's
        # trouble alone: the caller goes on with the others.
        except Exception as error:
            logger.debug("%r cannot be written to: %s", self, error)
            self.cut_off()

    async def drained(self, stall_s: float) -> None:
        """Returns once it can be written to again, or is closed; aborts a reader without progress for ``stall_s``."""
        while self.paused and not self.closed:
            unsent = self._unsent()
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=stall_s)
            if self.paused and not self.closed and self._unsent() >= unsent:
                logger.info("%r took nothing for %g s: cut off", self, stall_s)
                self.cut_off()

    def _unsent(self) -> int:
        """Bytes that the reader has not taken, here, in the transport and, where it can be asked, in the kernel: its
        buffer takes more only when a good part is free, so a slow reader shows there first."""
        sock = self.transport.get_extra_info("socket")
        queued = 0
        if sock is not None and sys.platform == "linux" and sock.fileno() >= 0:
            queued = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return len(self._unwritten) + self.transport.get_write_buffer_size() + queued

    def end(self) -> None:
        """Closes the connection behind what is not written yet."""
        if not self.closed and not self._ended:
            self._ending = True
            if not self._unwritten:
                self._close()

    def _close(self) -> None:
        if self._last_chunk:
            self.write_framed(sse.LAST_CHUNK)
        self._ending, self._ended = False, True
        self._let_go()
        if not self.closed:
            self.transport.close()

    def abort(self) -> None:
        self._let_go()
        self.transport.abort()

    def cut_off(self) -> None:
        """And is closed at once: nothing more is written to it, in this turn of the loop, too."""
        self.abort()
        self._lost()

    def _let_go(self) -> None:
        """Of the socket, which is the transport's to close. Both loops tell that the connection is lost before they do
        that, so the descriptor is never another connection's by now."""
        if self._direct is not None:
            self._direct.detach()
            self._direct = None

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Nothing is expected any more; a request pipelined behind the stream will never have an answer."""

    def eof_received(self) -> bool:
        return False  # close: nobody half-closes a stream to go on reading it

    def pause_writing(self) -> None:
        self.paused = True
        if self.group is not None:
            self.hub.leave(self)

    def resume_writing(self) -> None:
        self.paused = False
        if self._unwritten:
            self._write_on()
        if self.paused or self.closed:
            return
        if self._ending:
            self._close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def _lost(self) -> None:
        if not self.closed:
            self.closed = True
            self._unwritten = _NOTHING
            self._let_go()
            self.hub.remove(self)
            self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.group is not None else f"behind at {self.position}"
        return f"<Subscriber {state}{', paused' if self.paused else ''}>"
