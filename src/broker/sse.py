"""``text/event-stream`` bytes (WHATWG HTML, section 9.2): pure functions."""

from __future__ import annotations

# A comment line keeps proxies and clients from giving an idle stream up.
HEARTBEAT = b":\n\n"


def frame(event_id: bytes, event: str, data: bytes) -> bytes:
    """One event. ``data`` is compact JSON, so it has no line break outside of escapes (records.py holds that)."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, event.encode(), data)


def control(name: str, data: bytes, event_id: bytes | None = None) -> bytes:
    """One of Broker's own events (``$ready``, ``$skipped``, ``$reset``); without an id the client keeps its last."""
    head = b"id: %b\n" % event_id if event_id is not None else b""
    return b"%bevent: $%b\ndata: %b\n\n" % (head, name.encode(), data)


def ready(event_id: bytes) -> bytes:
    return control("ready", b'{"id":"%b"}' % event_id, event_id)


def skipped(positions: int) -> bytes:
    return control("skipped", b'{"positions":%d}' % positions)


def reset() -> bytes:
    return control("reset", b'{"reason":"unknown-id"}')


def retry(milliseconds: int) -> bytes:
    return b"retry: %d\n\n" % milliseconds


def heartbeat(event_id: bytes) -> bytes:
    """For filtered streams: an ``id:`` without data moves EventSource's last id and dispatches nothing."""
    return b":\nid: %b\n\n" % event_id


def chunk(payload: bytes) -> bytes:
    """Framed for HTTP/1.1 (RFC 9112, section 7.1). Nothing for nothing: a chunk of no bytes would end the response."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


LAST_CHUNK = b"0\r\n\r\n"
