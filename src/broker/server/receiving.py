"""What of a request is being received, and whether that is too large or too slow: arithmetic, time is an argument."""

from __future__ import annotations

from enum import Enum

from broker.errors import BrokerError, HeadTooLarge, RequestTimeout
from broker.settings import Settings


class Part(Enum):
    """Of a request, in the order in which they come."""

    NOTHING = 0  # the last request is complete, and nothing of another one has come
    HEADERS = 1  # also right after the connection is made: a client that sends nothing is a slow one
    BODY = 2


class Receiving:
    """One for each connection. Mutable state: the part that is being received, and since when; how many bytes of it
    came since then; how many bytes the parser was given since it last understood some of them; and the size of the
    headers that it understood.

    Times are seconds of one clock."""

    __slots__ = ("_bytes", "_headers", "_settings", "_since", "_unparsed", "part")

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self.part = Part.HEADERS
        self._since = now
        self._bytes = 0
        self._unparsed = 0
        self._headers = 0

    def begin(self, part: Part, now: float) -> None:
        self.part = part
        self._since = now
        self._bytes = self._unparsed = self._headers = 0

    def received(self, size: int, now: float) -> None:
        """So many bytes came, and are given to the parser next."""
        if self.part is Part.NOTHING:
            self.begin(Part.HEADERS, now)
        self._bytes += size
        self._unparsed += size

    def parsed(self) -> None:
        """The parser found a piece of the body."""
        self._unparsed = 0

    def headers(self, size: int) -> None:
        """The parser found a piece of the request's URL or headers. They may have come in one segment with all else."""
        self._headers += size

    def complete(self) -> None:
        self.part = Part.NOTHING

    def restart_clock(self, now: float) -> None:
        """The client could send nothing, because reading was paused."""
        self._since, self._bytes = now, 0

    @property
    def silent(self) -> bool:
        """Whether a request is awaited of which nothing has come."""
        return self.part is Part.HEADERS and self._bytes == 0

    def headers_too_large(self) -> BrokerError | None:
        """When the headers are complete. All of them may have come at once, with a part of the body behind them."""
        return self._too_large() if self._headers > self._settings.head_bytes_max else None

    def too_large(self) -> BrokerError | None:
        """When the parser was given what came. Headers, trailers and the lines between the chunks of a body are kept
        until they are complete."""
        if self.part is Part.NOTHING or self._unparsed <= self._settings.head_bytes_max:
            return None
        return self._too_large()

    def _too_large(self) -> BrokerError:
        limit = self._settings.head_bytes_max
        return HeadTooLarge(f"the head of the request is larger than {limit} bytes (head_bytes_max)")

    def too_slow(self, now: float) -> BrokerError | None:
        """A body may take as long as it likes, if it comes at the least rate, which is looked at every
        ``head_timeout_s``."""
        settings = self._settings
        passed_s = now - self._since
        if self.part is Part.NOTHING or passed_s <= settings.head_timeout_s:
            return None
        if self.part is Part.HEADERS:
            return RequestTimeout(f"the head of the request took over {settings.head_timeout_s:g} seconds")
        if self._bytes < passed_s * settings.body_rate_min:
            return RequestTimeout(f"the body comes slower than {settings.body_rate_min} bytes a second (body_rate_min)")
        self.restart_clock(now)
        return None
