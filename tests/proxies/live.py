"""What must hold of a stream behind any proxy, compressing or not, while Broker runs."""

from __future__ import annotations

import time

import httpx

from tests.proxies.lab import Proxy, through
from tests.support.servers import wait_for

LIVE_S = 1.0  # within which an event must have come through
LONG = "…" * 2_000  # more than any proxy waits for before it compresses


def check_it_is_live(ada: httpx.Client, proxy: Proxy) -> None:
    def insert(number: int) -> str:
        answer = ada.post("/insert", json={"event": "live", "data": {"n": number, "long": LONG}})
        assert answer.status_code == 201
        return str(answer.json()["id"])

    first = insert(1)
    asked = time.monotonic()
    stream = through(proxy)
    stream.wait("$ready", bound_s=LIVE_S)
    assert time.monotonic() - asked < LIVE_S
    assert stream.status == 200
    assert stream.last_id == first, "ids come through"
    assert "text/event-stream; charset=utf-8" in stream.head, "and so does the charset"

    inserted = time.monotonic()
    second = insert(2)
    wait_for(lambda: stream.last_id == second, LIVE_S, f"a live event through {proxy.name}")
    assert time.monotonic() - inserted < LIVE_S
    assert [frame.json() for frame in stream.records()[-2:]] == [{"n": n, "long": LONG} for n in (1, 2)]

    heard = stream.comments
    wait_for(lambda: stream.comments >= heard + 2, what=f"two heartbeats through {proxy.name}")
    stream.close()

    third = insert(3)
    resumed = through(proxy, last_id=first)
    resumed.wait("$ready", bound_s=LIVE_S)
    assert [frame.id for frame in resumed.frames] == [second, third, third], "what was missed, and $ready"
    resumed.close()
