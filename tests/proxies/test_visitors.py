"""One visitor has one address, whichever way he comes: limits by address hold behind a proxy on a dual-stack host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.proxies.conftest import DEBIAN
from tests.proxies.lab import Proxy, installed, need, through
from tests.support.servers import BOUND_S, ServerProcess, wait_for

PROXIES = ["nginx, as below", "Caddy, as below", "HAProxy, as below"]
WAYS = [(name, upstream) for name in PROXIES for upstream in ("127.0.0.1", "[::1]")]


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """On both IPv4 and IPv6, with proxies trusted that are on this machine (the default)."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"NO ADDRESS OF IPV6 WAS TESTED: this machine has none ({error})")
    with ServerProcess(
        tmp_path_factory.mktemp("data"),
        "--open",
        "--host",
        "::",
        signups_per_address="2/hour",
        subscribers_per_address_max=1,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def ways(dual: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Proxy]]:
    """Each proxy that is installed, connecting over IPv4 and over IPv6."""
    with ExitStack() as stack:
        made: dict[tuple[str, str], Proxy] = {}
        for name, upstream in WAYS:
            kind, config = DEBIAN[name]
            if installed(kind.program):
                made[name, upstream] = stack.enter_context(kind(name, config, tmp_path_factory.mktemp(kind.program)))
        for (_, upstream), proxy in made.items():
            proxy.start(f"{upstream}:{dual.port}")
        yield made


@pytest.mark.parametrize(("name", "upstream"), WAYS)
def test_a_visitor_is_counted_as_one_directly_and_through_a_proxy(
    name: str, upstream: str, dual: ServerProcess, ways: dict[tuple[str, str], Proxy]
) -> None:
    need(DEBIAN[name][0].program)
    proxy = ways[name, upstream]
    visitor = f"127.0.1.{WAYS.index((name, upstream)) + 1}"
    with _from(visitor) as client:

        def sign_up(url: str, number: int) -> int:
            body = {"username": f"{visitor}-{number}", "password": "correct horse"}
            return client.post(f"{url}/users", json=body).status_code

        assert [sign_up(dual.url, 1), sign_up(proxy.url, 2)] == [201, 201]
        assert [sign_up(dual.url, 3), sign_up(proxy.url, 4)] == [429, 429]

    direct = through(dual, source=visitor)
    direct.wait("$ready")
    second = through(proxy, source=visitor)
    wait_for(lambda: second.retry, what="the answer to a stream too many")
    other = through(proxy, source="127.0.2.1")
    other.wait("$ready")
    assert second.frames == [], "this visitor has a stream, and may have one"
    for stream in (direct, second, other):
        stream.close()
    # The next case's stream of the other visitor needs the place.
    wait_for(lambda: "broker_subscribers 0\n" in httpx.get(f"{dual.url}/metrics").text, what="no streams")


@pytest.mark.parametrize(("name", "upstream"), WAYS)
def test_metrics_are_for_this_machine_and_not_for_who_comes_through_its_proxy(
    name: str, upstream: str, dual: ServerProcess, ways: dict[tuple[str, str], Proxy]
) -> None:
    need(DEBIAN[name][0].program)
    assert httpx.get(f"{dual.url}/metrics").status_code == 200
    assert httpx.get(f"http://[::1]:{dual.port}/metrics").status_code == 200
    assert httpx.get(f"{ways[name, upstream].url}/metrics").status_code == 403
    with _from("127.0.1.9") as client:
        assert client.get(f"{ways[name, upstream].url}/metrics").status_code == 403


def _from(address: str) -> httpx.Client:
    """A client at another address of this machine: all of 127.0.0.0/8 is."""
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=BOUND_S)
