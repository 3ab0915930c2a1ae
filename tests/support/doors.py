"""``broker``, whose server has only one of the two doors to ``POST /insert``, or shows which one a request has taken.
The tests of the doors start it: ``python -m tests.support.doors DOOR serve ...``."""

from __future__ import annotations

import sys

from starlette.types import Scope

from broker.server.connection import Connection
from broker.web.app import App
from broker.web.requests import Header


async def _marked(app: App, scope: Scope, body: bytes) -> tuple[int, list[Header], bytes]:
    return 200, [(b"content-length", b"6")], b"direct"


def _never(connection: Connection) -> bool:
    return False


def main() -> None:
    owner, method, instead = {"asgi": (Connection, "_is_direct", _never), "marked": (App, "insert", _marked)}[
        sys.argv.pop(1)
    ]
    setattr(owner, method, instead)
    from broker.cli.main import console_script

    console_script()


if __name__ == "__main__":
    main()
