"""The benchmark's Python peers: a broadcast server as people write it with these libraries.

``SSE_KIND`` says with which: ``starlette`` (a ``StreamingResponse``, the frame encoded once for all) or
``sse-starlette`` (its ``EventSourceResponse``, which encodes for each subscriber).

The peers have the lighter job: nobody is authenticated, nothing is stored, a queue has no bound.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

KIND = os.environ["SSE_KIND"]
if KIND not in ("starlette", "sse-starlette"):
    raise SystemExit(f"SSE_KIND={KIND}: expected starlette or sse-starlette")
if KIND == "sse-starlette":  # the other must run without it
    from sse_starlette import EventSourceResponse, ServerSentEvent


@dataclass(frozen=True, slots=True)
class Message:
    id: int
    data: str
    frame: bytes


subscribers: set[asyncio.Queue[Message]] = set()
last_id = 0


async def publish(request: Request) -> Response:
    global last_id
    body = await request.body()
    last_id += 1
    message = Message(last_id, body.decode(), b"id: %d\nevent: bench\ndata: %b\n\n" % (last_id, body))
    for queue in subscribers:
        queue.put_nowait(message)
    return Response(status_code=202)


def subscribe() -> asyncio.Queue[Message]:
    queue: asyncio.Queue[Message] = asyncio.Queue()
    subscribers.add(queue)  # before the response's head: who sees the head gets all that follows
    return queue


async def starlette_events(_request: Request) -> Response:
    queue = subscribe()

    async def frames() -> AsyncIterator[bytes]:
        try:
            while True:
                yield (await queue.get()).frame
        finally:
            subscribers.discard(queue)

    return StreamingResponse(frames(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def sse_starlette_events(_request: Request) -> Response:
    queue = subscribe()

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            while True:
                message = await queue.get()
                yield ServerSentEvent(data=message.data, event="bench", id=str(message.id))
        finally:
            subscribers.discard(queue)

    response: Response = EventSourceResponse(events())
    return response


app = Starlette(
    routes=[
        Route("/publish", publish, methods=["POST"]),
        Route("/events", starlette_events if KIND == "starlette" else sse_starlette_events),
    ]
)
