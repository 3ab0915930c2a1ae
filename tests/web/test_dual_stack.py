"""A server that listens on IPv6 and IPv4 alike (`--host ::`): limits, metrics and trusted proxies see one address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.servers import BOUND_S, ServerProcess

ALLOWED = 4
HOSTS = ["127.0.0.1", "[::1]"]


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("dual")
    with ServerProcess(data, "--open", "--host", "::", signups_per_address=f"{ALLOWED}/hour") as server:
        yield server


def sign_ups(server: ServerProcess, forwarded: list[str]) -> list[int]:
    """The statuses of a sign-up for each of the addresses that a proxy tells, over IPv4 and over IPv6 in turn."""
    statuses = []
    for number, each in enumerate(forwarded):
        answer = httpx.post(
            f"http://{HOSTS[number % 2]}:{server.port}/users",
            json={"username": f"dual-{uuid4()}", "password": "correct horse"},
            headers={"X-Forwarded-For": each},
        )
        statuses.append(answer.status_code)
    return statuses


@pytest.mark.parametrize(
    "spellings",
    [
        ["203.0.113.9"],
        ["203.0.113.9", "::ffff:203.0.113.9"],
        ["203.0.113.9:5000", "203.0.113.9:5001", "[::ffff:203.0.113.9]:5002"],
        ["203.0.113.9, 127.0.0.1", "203.0.113.9, ::1", "203.0.113.9, ::ffff:127.0.0.1", "::ffff:cb00:7109, 127.0.0.1"],
        ["2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:1", "2001:db8:1:2::ffff", "[2001:db8:1:2::1]:5000"],
    ],
)
def test_a_visitor_behind_a_proxy_is_one_however_the_address_is_written(tmp_path: Path, spellings: list[str]) -> None:
    with ServerProcess(tmp_path, "--open", "--host", "::", signups_per_address=f"{ALLOWED}/hour") as server:
        asked = (spellings * (2 * ALLOWED))[: 2 * ALLOWED]
        assert sign_ups(server, asked) == [201] * ALLOWED + [429] * ALLOWED


@pytest.mark.parametrize("host", HOSTS)
def test_metrics_are_for_this_machine_over_either_family_and_not_for_who_comes_by_a_proxy(
    dual: ServerProcess, host: str
) -> None:
    address = f"http://{host}:{dual.port}/metrics"
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403


@pytest.mark.parametrize("trusted", ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.0/8", "::ffff:7f00:0/104"])
def test_a_trusted_proxy_is_trusted_however_its_address_is_written(tmp_path: Path, trusted: str) -> None:
    with ServerProcess(
        tmp_path, "--open", "--host", "::", trusted_proxies=trusted, connections_per_address_max=3
    ) as server:
        assert connections(server, "127.0.0.1", 6) == 6
        assert connections(server, "::1", 6) == 3
        assert connections(server, "127.0.0.1", 6) == 6


def test_who_is_not_trusted_is_counted_over_either_family(tmp_path: Path) -> None:
    with ServerProcess(
        tmp_path, "--open", "--host", "::", trusted_proxies="192.0.2.1", connections_per_address_max=3
    ) as server:
        assert connections(server, "127.0.0.1", 6) == 3
        assert connections(server, "::1", 6) == 3


def connections(server: ServerProcess, host: str, count: int) -> int:
    """How many of so many connections at a time the server keeps."""
    socks = [socket.create_connection((host, server.port), BOUND_S) for _ in range(count)]
    kept = 0
    for sock in socks:
        try:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            kept += sock.recv(100).startswith(b"HTTP/1.1 200 ")
        except OSError:
            pass  # it was closed
    for sock in socks:
        sock.close()
    return kept
