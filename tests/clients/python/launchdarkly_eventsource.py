"""launchdarkly-eventsource connects again by itself if its error strategy says so."""

from __future__ import annotations

from ld_eventsource import SSEClient
from ld_eventsource.config import ErrorStrategy

from tests.clients.python.program import SAVED_ID, URL, deliver

client = SSEClient(URL, error_strategy=ErrorStrategy.always_continue(), last_event_id=SAVED_ID or None)
for event in client.events:
    deliver(event.event, event.data, event.last_event_id)
