"""aiohttp-sse-client2 connects again by itself, after some kinds of end."""

from __future__ import annotations

import asyncio

from aiohttp_sse_client2 import client

from tests.clients.python.program import LARGE, LARGE_BYTES, SAVED_ID, URL, deliver


async def main() -> None:
    headers = {"Last-Event-ID": SAVED_ID} if SAVED_ID else {}
    options = {"read_bufsize": LARGE_BYTES} if LARGE else {}
    async with client.EventSource(URL, headers=headers, timeout=None, **options) as source:
        async for event in source:
            deliver(event.type, event.data, event.last_event_id)


asyncio.run(main())
