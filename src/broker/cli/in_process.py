"""Asks Broker in this process, when no server runs on its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from broker.broker import Broker
from broker.settings import Settings
from broker.web.app import App
from broker.web.credentials import OPERATOR_KEY, OPERATOR_MARK


@contextmanager
def asked_in_process(settings: Settings) -> Iterator[Callable[[str, str, bytes | None], tuple[int, bytes]]]:
    """Yields a function that sends a request as the operator: its method, its path, and its body, if it has one. It
    returns the status and the body of the response."""
    with asyncio.Runner() as runner:
        broker = Broker(settings)
        runner.run(broker.start(also_unconfirmed=True))
        try:
            app = App(broker)
            yield lambda *request: runner.run(_ask(app, *request))
        finally:
            runner.run(broker.stop())


async def _ask(app: App, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    content = body or b""
    encoded, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(encoded), "raw_path": encoded.encode(), "root_path": "", "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))],
        "client": None, "server": None, "state": {OPERATOR_KEY: OPERATOR_MARK},
    }  # fmt: skip
    parts: list[bytes] = []
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)
