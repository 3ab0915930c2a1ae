"""requests-sse connects again by itself."""

from __future__ import annotations

from requests_sse import EventSource

from tests.clients.python.program import SAVED_ID, URL, deliver

# It gives up when it has been refused six times in a row, which is sooner than a busy machine starts a server.
with EventSource(URL, latest_event_id=SAVED_ID or None, timeout=30, max_connect_retry=20) as source:
    for event in source:
        deliver(event.type, event.data, event.last_event_id)
