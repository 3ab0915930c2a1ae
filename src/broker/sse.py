"""The bytes of ``text/event-stream`` (WHATWG HTML, section 9.2), made by pure functions."""

from __future__ import annotations

from broker.records import seconds_text

# An empty line is written after an event and nowhere else, because several libraries deliver an event at every empty
# line, even if there was no data (docs/decisions/0007). So ``retry:`` and comments belong to the block that follows.

# A line that is only a comment: proxies and clients would close a stream on which nothing arrives.
HEARTBEAT = b":\n"


def frame(event_id: bytes, event: str, data: bytes) -> bytes:
    """One event. ``data`` is compact JSON: line breaks in it are escaped, as raw_json.py ensures. Otherwise they would
    end the ``data:`` line."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, event.encode(), data)


def control(name: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """One of Broker's own events (``$ready``, ``$skipped``, ``$reset``). Without an id the client keeps its last id."""
    id_line = b"id: %b\n" % event_id if event_id is not None else b""
    return b"%bevent: $%b\ndata: %b\n\n" % (id_line, name.encode(), data)


def ready(event_id: bytes, now_us: int, heartbeat_s: float) -> bytes:
    """The end of a catch-up. ``now_us`` is the server's time in microseconds since the epoch."""
    data = b'{"id":"%b","time":%b,"heartbeat":%b}' % (event_id, _seconds(now_us), b"%g" % heartbeat_s)
    return control("ready", data, event_id)


def skipped(positions: int) -> bytes:
    """What follows is the latest of each event that changed, in place of so many records."""
    return control("skipped", b'{"positions":%d}' % positions)


def reset() -> bytes:
    """The client's id is unknown, so it must forget its state: the snapshot follows."""
    return control("reset", b'{"reason":"unknown-id"}')


def retry(milliseconds: int) -> bytes:
    """After how long the client reconnects when the stream has ended."""
    return b"retry: %d\n" % milliseconds


def moved_on(event_id: bytes) -> bytes:
    """Moves the last id of a client whose stream shows only a part of the log. EventSource remembers an ``id:`` without
    data and dispatches no event. This is the only block without an event."""
    return b"id: %b\n\n" % event_id


def heartbeat(now_us: int, event_id: bytes | None = None) -> bytes:
    """A heartbeat that a page receives as an event, with the server's time in microseconds since the epoch."""
    return control("heartbeat", b'{"time":%b}' % _seconds(now_us), event_id)


def chunk(payload: bytes) -> bytes:
    """The payload as a chunk of HTTP/1.1 (RFC 9112, section 7.1). Returns b"" for an empty payload, because a chunk
    without bytes ends the response."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


LAST_CHUNK = b"0\r\n\r\n"


def _seconds(microseconds: int) -> bytes:
    return seconds_text(microseconds).encode()
