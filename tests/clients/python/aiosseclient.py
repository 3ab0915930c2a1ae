"""aiosseclient reads one response: to connect again is its user's part."""

from __future__ import annotations

import asyncio

import aiohttp
import aiohttp.http_exceptions
from aiosseclient import aiosseclient

from tests.clients.python.program import SAVED_ID, URL, complain, deliver


async def main() -> None:
    last_id = SAVED_ID
    while True:
        try:
            async for event in aiosseclient(URL, last_id=last_id or None):
                deliver(event.event, event.data, event.id)
                last_id = event.id or last_id
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError) as error:
            complain(error)
        await asyncio.sleep(0.5)


asyncio.run(main())
