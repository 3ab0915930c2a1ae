"""The bytes of ``text/event-stream`` (WHATWG HTML, section 9.2), made by pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from broker.records import seconds_text

# An empty line is written after an event and nowhere else, because several libraries deliver an event at every empty
# line, even if there was no data (docs/decisions/0007). So ``retry:`` and comments belong to the block that follows.

# A line that is only a comment. It is sent because proxies and clients would close a stream on which nothing arrives.
HEARTBEAT = b":\n"


def frame(event_id: bytes, event: str, data: bytes) -> bytes:
    """Returns one event. ``data`` is compact JSON, in which line breaks are escaped, as raw_json.py ensures. A line
    break that is not escaped would end the ``data:`` line."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, event.encode(), data)


def message(event_id: bytes, json: bytes) -> bytes:
    """Returns a record as a message without a name, which EventSource passes to ``onmessage``."""
    return b"id: %b\ndata: %b\n\n" % (event_id, json)


def control(name: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """Returns one of Broker's own events (``$ready``, ``$skipped``, ``$reset``, ``$heartbeat``). Without an id the
    client keeps its last id."""
    id_line = b"id: %b\n" % event_id if event_id is not None else b""
    return b"%bevent: $%b\ndata: %b\n\n" % (id_line, name.encode(), data)


def ready(
    event_id: bytes, now_us: int, heartbeat_s: float, *, partial: bool = False, denied: Sequence[str] = ()
) -> bytes:
    """Returns ``$ready``, the end of a catch-up. ``now_us`` is the server's time in microseconds since 1970.
    ``partial``: whether the rules hide some of the events that the client has asked for; ``denied`` has the exact names
    among them."""
    more = b',"partial":true' if partial else b""
    if denied:
        more += b',"denied":%b' % msgspec.json.encode(denied)
    data = b'{"id":"%b","time":%b,"heartbeat":%b%b}' % (
        event_id, seconds_text(now_us).encode(), b"%g" % heartbeat_s, more,
    )  # fmt: skip
    return control("ready", data, event_id)


def skipped(positions: int | None) -> bytes:
    """Returns ``$skipped``: this number of records is not replayed. In their place, the latest record of each event
    that has changed follows. The number is None for a reader from whom the rules hide some of them."""
    return control("skipped", b"{}" if positions is None else b'{"positions":%d}' % positions)


def reset(reason: str = "unknown-id") -> bytes:
    """Returns ``$reset``: the client must forget its state. The snapshot follows. The reason is ``unknown-id``;
    ``too-old`` if some removals since the client's id are not known any more; or ``rights`` if what the client may read
    has changed."""
    return control("reset", b'{"reason":"%b"}' % reason.encode())


def login(reason: str) -> bytes:
    """Returns ``$login``: the token of this stream is not valid any more, and the stream ends."""
    return control("login", b'{"reason":"%b"}' % reason.encode())


def passed(positions: int, event_id: bytes) -> bytes:
    """Returns ``$passed``: the records at this number of positions are not shown on any stream. The id is that of the
    last of these positions."""
    return control("passed", b'{"positions":%d}' % positions, event_id)


def pending() -> bytes:
    """What is pending may have changed. It has no id, because it is about no position."""
    return control("pending", b"{}")


def retry(milliseconds: int) -> bytes:
    """Returns the field that says how long the client waits before it reconnects after the end of the stream."""
    return b"retry: %d\n" % milliseconds


def moved_on(event_id: bytes) -> bytes:
    """Returns a block that moves the last id of a client whose stream has a filter. EventSource remembers an ``id:``
    without data, and dispatches no event for it. This is the only block without an event."""
    return b"id: %b\n\n" % event_id


def heartbeat(now_us: int, event_id: bytes | None = None) -> bytes:
    """Returns a heartbeat that a page receives as an event. ``now_us`` is the server's time in microseconds since
    1970."""
    return control("heartbeat", b'{"time":%b}' % seconds_text(now_us).encode(), event_id)


def chunk(payload: bytes) -> bytes:
    """Returns the payload as a chunk of HTTP/1.1 (RFC 9112, section 7.1). Returns b"" for an empty payload, because a
    chunk without bytes ends the response."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


LAST_CHUNK = b"0\r\n\r\n"
