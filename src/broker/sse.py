"""``text/event-stream`` bytes (WHATWG HTML, section 9.2): pure functions."""

from __future__ import annotations

from broker.records import seconds_text

# An empty line is written behind an event and nowhere else. Several libraries deliver an event at every empty line, an
# empty one if there was no data (docs/decisions/0007). So ``retry:`` and a comment run into the block that follows.

# A comment line keeps proxies and clients from giving an idle stream up.
HEARTBEAT = b":\n"


def frame(event_id: bytes, event: str, data: bytes) -> bytes:
    """One event. ``data`` is compact JSON, so it has no line break outside of escapes (records.py holds that)."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, event.encode(), data)


def control(name: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """One of Broker's own events (``$ready``, ``$skipped``, ``$reset``); without an id the client keeps its last."""
    head = b"id: %b\n" % event_id if event_id is not None else b""
    return b"%bevent: $%b\ndata: %b\n\n" % (head, name.encode(), data)


def ready(event_id: bytes, now_us: int, heartbeat_s: float) -> bytes:
    """``now_us`` is the server's time in microseconds since the epoch."""
    data = b'{"id":"%b","time":%b,"heartbeat":%b}' % (event_id, _seconds(now_us), b"%g" % heartbeat_s)
    return control("ready", data, event_id)


def skipped(positions: int) -> bytes:
    return control("skipped", b'{"positions":%d}' % positions)


def reset() -> bytes:
    return control("reset", b'{"reason":"unknown-id"}')


def retry(milliseconds: int) -> bytes:
    return b"retry: %d\n" % milliseconds


def moved_on(event_id: bytes) -> bytes:
    """For a stream that shows a part of the log, whose position has moved: an ``id:`` without data moves EventSource's
    last id, and dispatches nothing. It is the one block without an event."""
    return b"id: %b\n\n" % event_id


def heartbeat(now_us: int, event_id: bytes | None = None) -> bytes:
    """The heartbeat that a page can receive, with the server's time."""
    return control("heartbeat", b'{"time":%b}' % _seconds(now_us), event_id)


def chunk(payload: bytes) -> bytes:
    """Framed for HTTP/1.1 (RFC 9112, section 7.1). Nothing for nothing: a chunk of no bytes would end the response."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


LAST_CHUNK = b"0\r\n\r\n"


def _seconds(microseconds: int) -> bytes:
    return seconds_text(microseconds).encode()
