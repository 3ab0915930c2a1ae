"""Files that are served as they are: ``/openapi.json`` and ``/docs``, which `make docs` makes."""

from __future__ import annotations

from importlib import resources

from starlette.types import Receive, Scope, Send

from broker.web.requests import JSON, respond

HTML = b"text/html; charset=utf-8"


class Asset:
    """One file of the folder ``assets``, read once and kept in memory."""

    def __init__(self, name: str, media_type: bytes = JSON) -> None:
        self._body = (resources.files("broker.web") / "assets" / name).read_bytes()
        self._media_type = media_type

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, self._body, self._media_type)
