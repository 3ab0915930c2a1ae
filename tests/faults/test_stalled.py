"""Readers that are stopped leave the others' latency and the server's memory alone, and are exact afterwards.

Short here; ``BROKER_BIG=1`` does what docs/reliability.md tells of: 1,000 subscribers, 60 s."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.support.servers import ServerProcess, wait_for

BIG = bool(os.environ.get("BROKER_BIG"))
HALF, SECONDS, PER_SECOND = (500, 60.0, 200) if BIG else (100, 2.0, 200)
EVENTS = 50
REPLAY_MAX = 10_000 if BIG else 150  # so that the short run, too, has readers that skip
# A stopped reader skips once it is further behind than REPLAY_MAX and what the buffers on its way hold, at most a
# megabyte. A slow machine does not publish as many records in SECONDS, so that the run then takes longer.
WHILE_STOPPED = REPLAY_MAX + 300
TEXT = "x" * 4_000
RSS_MAX_KB = 600 * 1024
CATCH_UP_S = 300 if BIG else 60  # up to 16 MB for each of them, read by Python


class Readers:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def report(self, command: str = "report") -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report

    def all_at(self, position: int) -> bool:
        return set(self.report("look")["positions"]) == {position}


@contextmanager
def readers(server: ServerProcess, certificate: str, receive_buffer: str) -> Iterator[Readers]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.stalled", str(server.port), str(HALF), receive_buffer, certificate],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            half = Readers(process)
            wait_for(lambda: half.report()["ready"] == HALF, 60)
            yield half
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def publish(client: httpx.Client, seconds: float, first: int, at_least: int = 0) -> int:
    """Batches, until the time is over and there are ``at_least`` so many records; returns the number of the next."""
    n, begun = first, time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds or n - first < at_least:
        count = int(elapsed * PER_SECOND) + 1 - (n - first)
        if count > 0:
            count = min(count, 100)  # else, after a pause, it would be too large a body
            us = time.time_ns() // 1_000
            batch = [{"event": f"e{m % EVENTS}", "data": {"n": m, "us": us, "text": TEXT}} for m in range(n, n + count)]
            assert client.post("/insert", json=batch, headers={"Prefer": "return=minimal"}).status_code == 201
            n += count
        time.sleep(0.02)  # the pace of the publisher
    return n


def rss_kb(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_stopped_readers_leave_the_others_and_the_memory_alone_and_are_exact_afterwards(
    tmp_path: Path, tls: bool
) -> None:
    options: list[str] = []
    certificate = "-"
    if tls:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        certificate = str(tmp_path / "ca.pem")
        authority.cert_pem.write_to_path(certificate)
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        options = ["--set", f"tls_certificate={tmp_path / 'cert.pem'}", "--set", f"tls_key={tmp_path / 'key.pem'}"]
    server = ServerProcess(
        tmp_path / "data", *options, scheme="https" if tls else "http", subscriber_stall_s=5.0, replay_max=REPLAY_MAX
    )
    with ExitStack() as stack:
        stack.enter_context(server)
        client = stack.enter_context(server.client("ada"))
        moving = stack.enter_context(readers(server, certificate, receive_buffer="-"))
        n = publish(client, SECONDS, 0)
        alone = moving.report()
        stopped = stack.enter_context(readers(server, certificate, receive_buffer="16384"))
        n = publish(client, min(SECONDS, 10), n)  # more than a reader in Python can take for long
        for half in (moving, stopped):
            wait_for(partial(half.all_at, n), CATCH_UP_S, "all of them catch up")
        together = moving.report()
        before_kb = rss_kb(server)
        stopped.process.send_signal(signal.SIGSTOP)
        n = publish(client, SECONDS, n, WHILE_STOPPED)
        after_kb = rss_kb(server)
        during = moving.report()
        stopped.process.send_signal(signal.SIGCONT)
        latest = {f"e{m % EVENTS}": m for m in range(n)}
        for half in (moving, stopped):
            wait_for(partial(half.all_at, n), CATCH_UP_S, "all of them catch up")
        resumed, others = stopped.report(), moving.report()
        print(
            f"\n{'TLS' if tls else 'plain'}: p99 of {HALF} readers {alone['p99_ms']:.1f} ms, with {HALF} more "
            f"{together['p99_ms']:.1f}, while those were stopped {during['p99_ms']:.1f}; "
            f"memory {before_kb / 1024:.0f} MB, then {after_kb / 1024:.0f}; "
            f"{n} records of 4 KB; $skipped {resumed['skips']} times"
        )
    for report in (resumed, others):
        assert report["faults"] == []
        assert all(each == latest for each in report["latest"])
    assert resumed["skips"] > 0
    if not others["skips"]:  # one that keeps up gets every record; on a slow machine not all do
        assert set(others["records"]) == {n}
    assert after_kb < RSS_MAX_KB
