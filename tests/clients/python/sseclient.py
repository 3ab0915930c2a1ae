"""sseclient connects again by itself."""

from __future__ import annotations

from sseclient import SSEClient

from tests.clients.python.program import SAVED_ID, URL, deliver

for event in SSEClient(URL, last_id=SAVED_ID or None):
    deliver(event.event, event.data, event.id)
