"""``broker``, whose server has only one of the two doors to ``POST /insert``, or shows which one a request has taken.
The tests of the doors start it: ``python -m tests.support.doors DOOR serve ...``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from starlette.types import Scope

from broker.errors import BadRequest
from broker.server.connection import Connection
from broker.web.direct import DirectInsert
from broker.web.requests import Response
from broker.web.stream import Stream


def _only_asgi() -> None:
    Connection._is_direct = lambda connection: False  # type: ignore[assignment, method-assign]


def _marked() -> None:
    """The door without ASGI answers inserts with its name, and that of ASGI refuses streams."""

    async def answer(direct: DirectInsert, scope: Scope, body: bytes) -> Response:
        return Response(200, b"direct")

    DirectInsert.answer = answer  # type: ignore[assignment, method-assign]

    async def no_stream(stream: Stream, *request: Any) -> None:
        raise BadRequest("asgi")

    Stream._open = no_stream  # type: ignore[assignment, method-assign]
    DirectInsert.begin = lambda *request: None  # type: ignore[method-assign]


def _never_parsed_again() -> None:
    """A connection, but that of the operator and of httpx, is closed when the parser is needed a second time."""
    parse = Connection._parse

    def parse_first(connection: Any, data: bytes) -> None:
        first = connection.__dict__.setdefault("_first", data)
        if first is data or type(connection) is not Connection or b"httpx" in first:
            parse(connection, data)
        else:
            connection.transport.abort()

    Connection._parse = parse_first  # type: ignore[assignment, method-assign]


DOORS: dict[str, Callable[[], None]] = {"asgi": _only_asgi, "marked": _marked, "known": _never_parsed_again}


def main() -> None:
    DOORS[sys.argv.pop(1)]()
    from broker.cli.main import console_script

    console_script()


if __name__ == "__main__":
    main()
