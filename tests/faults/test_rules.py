"""Rules are written whole or not at all, whenever the server is killed."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx

from broker.cli.client import ClientError
from tests.support.rules import apply_rules, operate
from tests.support.servers import ServerProcess

KILLED_S = [0.0, 0.002, 0.01]  # after so long, before, during or after the commit


def test_rules_are_the_old_ones_or_the_new_ones_and_never_none(tmp_path: Path) -> None:
    file = '[[event]]\nname = "a/*"\nread = "user"\ninsert = "user"\nmax_bytes = '
    versions = [f"{file}{n}\n" for n in range(1, len(KILLED_S) + 2)]
    server = ServerProcess(tmp_path).start()
    apply_rules(server, versions[0])
    for delay_s, (old, new) in zip(KILLED_S, pairwise(versions), strict=True):
        killer = threading.Timer(delay_s, server.process.kill)
        killer.start()
        with suppress(ClientError, OSError):
            apply_rules(server, new)
        killer.join()
        server.process.wait()
        server.start()
        in_force = operate(server, "GET", "/collections/$rules")[-1]["data"]["toml"]
        assert in_force in (old, new)
        assert httpx.get(f"{server.url}/rights?event=a/1").json()["read"] is False
        if in_force == old:
            apply_rules(server, new)
    server.stop()
