"""requests-sse connects again by itself."""

from __future__ import annotations

from requests_sse import EventSource

from tests.clients.python.program import SAVED_ID, URL, deliver

with EventSource(URL, latest_event_id=SAVED_ID or None, timeout=30) as source:
    for event in source:
        deliver(event.type, event.data, event.last_event_id)
