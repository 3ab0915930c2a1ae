"""The part of a node that decides who receives a record, in this process: rules, the snapshot, the hub, and streams.
Many thousand users have streams here without sign-ups and requests."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Self
from uuid import UUID

from broker.live.access import Access
from broker.live.frames import make_frame
from broker.live.hub import Hub
from broker.live.reader import Reader
from broker.live.snapshot import Snapshot
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.names import RULES_EVENT
from broker.records import Record
from broker.rules.rights import Rights, encode_rules
from broker.settings import Settings
from broker.users import Actor

_EPOCH = "0a1b2c3d"
_SPARE_FILES = 200  # those that the process needs besides the sockets of the streams
_ID = UUID(int=1)


def streams_max(wanted: int, others: int = 0) -> int:
    """How many streams the limit of open files allows, besides ``others``: each has two sockets. Raises the limit as
    far as this process may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = 2 * (wanted + others) + _SPARE_FILES
    for limit in (hard, max(needed, hard)):
        with suppress(OSError, ValueError):  # only root may have more than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(wanted, (allowed - _SPARE_FILES) // 2 - others)


class _Unused:
    """A transport of which nothing is expected: all bytes are sent directly on the socket, which has room for them."""

    def write(self, data: bytes | memoryview, /) -> None:
        raise AssertionError("the socket of a stream is full")

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, /) -> Any:
        return None


class World:
    """An unfiltered stream of each user, and the records that are published to them. Needs a running event loop, for
    which nothing is left to do: what is published is written at once."""

    def __init__(self, rules: str, users: Sequence[str], names: Iterable[str] = ()) -> None:
        """``names`` are events whose data is ``true``."""
        self._access = Access(Rights())
        self._snapshot = Snapshot()
        self._position = 0
        self._hub = Hub(Settings(), self._access)
        self._access.start(_EPOCH, self._snapshot, [])
        self._hub.start(
            0,
            id_of=lambda position: f"{_EPOCH}-{position}".encode(),
            resume=lambda subscriber: None,
            committing=lambda: False,
            clock=lambda: time.time_ns() // 1_000,
        )
        if rules:
            self.publish(RULES_EVENT, encode_rules(rules))
        for name in names:
            self.publish(name, b"true")
        self._readers = [self._open(user) for user in users]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for subscriber in tuple(self._hub.subscribers):
            subscriber.cut_off()
        for each in self._readers:
            for end in each:
                end.close()

    def _open(self, user: str) -> tuple[socket.socket, socket.socket]:
        """Returns the reader's end of the connection first. The stream gives up its own socket without closing it, so
        it gets a second object for the same descriptor."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        subscriber = Subscriber(self._hub, Subscription(chunked=True), "", Reader(Actor(user, user)))
        subscriber.connected(StreamTransport(_Unused(), direct=socket.socket(fileno=ours.fileno())))
        self._hub.add(subscriber)
        subscriber.advance(self._hub.position)
        self._hub.join(subscriber)
        return theirs, ours

    def publish(self, event: str, data: bytes) -> None:
        """As ``Relay`` advances to a record, with a turn of the loop for each."""
        self._position += 1
        now_us = time.time_ns() // 1_000
        record = Record(_ID, event, data, "", None, now_us, False, now_us, position=self._position, published_us=now_us)
        frame = make_frame(record, f"{_EPOCH}-".encode())
        changes_rights = self._access.is_change(frame, self._snapshot.latest.get(event))
        if changes_rights:
            self._hub.flush()
        self._snapshot.put(frame)
        if changes_rights:
            self._hub.rights_changed(self._access.advance(frame))
        self._hub.publish(frame)
        self._hub.flush()

    def cost(self, event: str, data: bytes, times: int, receivers: int) -> float:
        """Microseconds of CPU for each record. The receivers read afterwards, and it is checked that they are as many
        as expected: a socket that is full would make the figures wrong."""
        before = time.process_time()
        for _ in range(times):
            self.publish(event, data)
        spent_s = time.process_time() - before
        received = sum(self._read(reader) == times for reader, _ in self._readers)
        assert received == receivers, f"{event}: {received} streams have received all, expected {receivers}"
        return spent_s / times * 1e6

    def _read(self, reader: socket.socket) -> int:
        """How many frames have arrived."""
        found = 0
        with suppress(BlockingIOError):
            while piece := reader.recv(1 << 18):
                found += piece.count(b"\ndata: ")
        return found
