"""Drives an ASGI app by hand: test clients buffer a whole body, so an endless stream would never return."""

from __future__ import annotations

import asyncio
from typing import Any

from broker.web.app import App
from tests.support.servers import EventReader, Frame


class AsgiStream:
    """An open ``GET /events`` within this process; ``reader.frames`` has what came."""

    def __init__(self, app: App, path: str = "/events", query: str = "", last_id: str = "") -> None:
        self.reader = EventReader()
        self.reading = asyncio.Event()  # cleared: the client reads nothing more
        self.reading.set()
        self._gone = asyncio.Event()
        self.status = 0
        headers = [(b"last-event-id", last_id.encode())] if last_id else []
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "headers": headers, "http_version": "1.1", "scheme": "http",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def frames(self) -> list[Frame]:
        return self.reader.frames

    async def leave(self) -> None:
        self._gone.set()
        await self.task

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.reader.take(message.get("body", b""))
