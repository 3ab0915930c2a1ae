"""What the tests of the operator's commands share: the commands, and the files of a real server's log."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

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


def told(done: subprocess.CompletedProcess[bytes], status: int = 0) -> str:
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
