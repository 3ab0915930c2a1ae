"""A disk that becomes full, and what a server does about it."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import ServerProcess, StreamReader, streaming, wait_for

DATA = base64.b64encode(random.Random(1).randbytes(15_000)).decode()  # PostgreSQL would compress what repeats
may_mount = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount a small disk; a limit of file size is tried"
)


@contextmanager
def a_small_disk(disk: Path, megabytes: int) -> Iterator[Path]:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


class Inserts:
    """Inserts one numbered record after the other, and keeps what was acknowledged."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.acknowledged: list[int] = []
        self._next = 0

    def one(self) -> httpx.Response:
        answer = self.client.post("/insert", json={"event": "e", "data": [self._next, DATA]})
        if answer.status_code == 201:
            self.acknowledged.append(self._next)
        self._next += 1
        return answer

    def until_refused(self) -> httpx.Response:
        for _ in range(1_000):
            if (answer := self.one()).status_code != 201:
                return answer
        raise AssertionError("nothing was refused")

    def until_stored(self) -> None:
        wait_for(lambda: self.one().status_code == 201, what="an insert is stored again")


def check_all_there(server: ServerProcess, client: httpx.Client, inserts: Inserts, reader: StreamReader) -> None:
    """What was acknowledged is in the log once, and was streamed once, in order; nothing refused went out before it."""
    logged = [record["data"][0] for record in client.get("/collections/e").json()]
    assert len(logged) == len(set(logged))
    assert set(inserts.acknowledged) <= set(logged)
    wait_for(lambda: len(reader.records()) >= len(logged))
    assert [json.loads(frame.data)[0] for frame in reader.records()] == logged
    assert [frame.position for frame in reader.records()] == list(range(1, len(logged) + 1))
    assert not reader.ended
    assert server.process.poll() is None


def told(server: ServerProcess, text: str) -> list[str]:
    return [line for line in server.log if text in line]


@contextmanager
def room_taken(disk: Path, left: int) -> Iterator[None]:
    """Takes all but so many bytes of the disk; gives them back at the end."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - left))
    try:
        yield
    finally:
        filler.unlink()


def check_full(server: ServerProcess, full: Callable[[], Any]) -> None:
    with server, server.client("ada") as client, streaming(server) as reader:
        inserts = Inserts(client)
        inserts.until_stored()
        with full():
            answer = inserts.until_refused()
            assert answer.status_code == 507
            assert "full" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert inserts.one().status_code == 507
            assert client.get("/collections/e").status_code == 200  # reading goes on
            with streaming(server) as newcomer:
                newcomer.wait("$ready")
        inserts.until_stored()
        check_all_there(server, client, inserts, reader)
        assert len(told(server, "the disk is full")) == 1  # one line, not one for each refusal
        wait_for(lambda: told(server, "it works again"))  # its log is read by a thread
        assert not told(server, "Traceback")
