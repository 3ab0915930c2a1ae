"""Tracks which part of a request is being received, and whether it is too large or too slow.

This is pure arithmetic: there is no input or output, and the time is passed as an argument."""

from __future__ import annotations

from enum import Enum

from broker.errors import BrokerError, HeadTooLarge, RequestTimeout
from broker.settings import Settings


class Part(Enum):
    """The parts of a request, in the order in which they arrive."""

    NOTHING = 0  # the last request is complete, and no byte of the next one has arrived
    HEADERS = 1  # also right after the connection is made, so that a client that sends nothing counts as slow
    BODY = 2


class Receiving:
    """The progress of receiving. Each connection has one object of this class.

    Mutable state: the part that is being received (``part``), the time from which its speed is measured (``_since``),
    how many bytes have arrived since then (``_bytes``), and how many bytes were passed to the parser since it last
    reported a piece of the body (``_unparsed``).

    Times are in seconds, all of the same clock."""

    __slots__ = ("_bytes", "_settings", "_since", "_unparsed", "part")

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self.part = Part.HEADERS
        self._since = now
        self._bytes = 0
        self._unparsed = 0

    def begin(self, part: Part, now: float) -> None:
        self.part = part
        self._since = now
        self._bytes = self._unparsed = 0

    def received(self, size: int, now: float) -> None:
        """Records that ``size`` bytes have arrived. They are passed to the parser after this call."""
        if self.part is Part.NOTHING:
            self.begin(Part.HEADERS, now)
        self._bytes += size
        self._unparsed += size

    def parsed(self) -> None:
        """Records that the parser has found a piece of the body."""
        self._unparsed = 0

    def complete(self) -> None:
        self.part = Part.NOTHING

    def restart_clock(self, now: float) -> None:
        """Measures the speed from now on, because the client could not send while reading was paused."""
        self._since, self._bytes = now, 0

    @property
    def idle(self) -> bool:
        """Whether no byte of a request has arrived that is not complete."""
        return self.part is Part.NOTHING or self.silent

    @property
    def silent(self) -> bool:
        """Whether a request is expected, and no byte of it has arrived."""
        return self.part is Part.HEADERS and self._bytes == 0

    def too_large(self, headers: int = 0) -> BrokerError | None:
        """Checks how much data the parser holds. The caller calls this after it has passed the received data to the
        parser, and also when the headers are complete, with the size of the URL and the ``headers`` in bytes: the whole
        request may have arrived in one segment, so the size of the segment says nothing about the headers.

        The parser keeps headers, trailers and the lines between the chunks of a body until they are complete. Headers
        that exceed the limit only with the data that completes them would be missed without the second call, because
        ``begin`` then sets the count of unparsed bytes to 0."""
        limit = self._settings.head_bytes_max
        if self.part is Part.NOTHING or (headers or self._unparsed) <= limit:
            return None
        return HeadTooLarge(f"the head of the request is larger than {limit} bytes (head_bytes_max)")

    def too_slow(self, now: float) -> BrokerError | None:
        """Checks the speed of the client.

        Headers must be complete within ``head_timeout_s``. A body may take any time, as long as it arrives at the
        minimum rate (``body_rate_min``), which is checked every ``head_timeout_s``."""
        settings = self._settings
        passed_s = now - self._since
        if self.part is Part.NOTHING or passed_s <= settings.head_timeout_s:
            return None
        if self.part is Part.HEADERS:
            return RequestTimeout(f"the head of the request took over {settings.head_timeout_s:g} seconds")
        if self._bytes < passed_s * settings.body_rate_min:
            return RequestTimeout(
                f"the body arrives slower than {settings.body_rate_min} bytes a second (body_rate_min)"
            )
        self.restart_clock(now)
        return None
