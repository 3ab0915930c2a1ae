"""What the tests of the operator's commands share: the commands, and the files of a real server's log."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import wait_for

LATER = 4_000_000_000


def broker(
    *arguments: object, stdin: bytes | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=before,
        # Coverage would write its file under the limits that ``before`` sets.
        env={name: value for name, value in os.environ.items() if not (before and name.startswith("COVERAGE"))},
    )


def stderr_of(done: subprocess.CompletedProcess[bytes], status: int = 0) -> str:
    assert done.returncode == status, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


def tamper(folder: Path, statement: str) -> None:
    database = sqlite3.connect(folder / "broker.db", isolation_level=None)
    assert database.execute(statement).rowcount != 0  # -1: no rows are meant
    database.close()


def insert(client: httpx.Client, event: str, data: Any, **more: Any) -> dict[str, Any]:
    answer = client.post("/insert", json={"event": event, "data": data, **more})
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


def insert_state(client: httpx.Client) -> None:
    """Inserts four records, and waits for a fifth one: an event that is removed, and two with versions of which one has
    ended."""
    insert(client, "removed", 1)
    insert(client, "removed", None)
    insert(client, "has ended", 2, until=round(time.time() + 1, 3))
    insert(client, "will end", 3, until=LATER)
    wait_for(lambda: client.get("/collections/has ended").json()[-1]["data"] is None, what="the ending")
