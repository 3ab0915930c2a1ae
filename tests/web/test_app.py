"""Broker as a library: mounted in other applications under plain Uvicorn, and `broker_run`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.hosts import FASTAPI, STARLETTE, HostProcess
from tests.support.servers import ServerProcess, StreamReader, streaming, wait_for

HOSTS = {
    "starlette": (STARLETTE, ()),
    "fastapi": (FASTAPI, ("--loop", "asyncio")),
}


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    source, options = HOSTS[request.param]
    running = HostProcess(tmp_path_factory.mktemp(request.param), source, *options)
    with running:
        yield running


@pytest.fixture(scope="module")
def client(host: HostProcess) -> Iterator[httpx.Client]:
    with host.client("ada") as client:
        yield client


def _subscribers(client: httpx.Client) -> int:
    text = client.get("/metrics").text
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("broker_subscribers ")))


class TestMounted:
    def test_a_stream_has_its_snapshot_then_ready_then_what_comes(
        self, host: HostProcess, client: httpx.Client
    ) -> None:
        client.post("/insert", json={"event": "mounted", "data": 1}).raise_for_status()
        with streaming(host, "/live/events?event=mounted") as stream:
            stream.wait("$ready")
            client.post("/insert", json={"event": "mounted", "data": {"n": 2}}).raise_for_status()
            frames = stream.wait("mounted", 2)
        assert [(frame.event, frame.data) for frame in frames if frame.event != "$ready"] == [
            ("mounted", "1"),
            ("mounted", '{"n":2}'),
        ]
        assert "text/event-stream" in stream.head
        assert "no-store" in stream.head

    def test_a_stream_resumes_behind_the_last_id(self, host: HostProcess, client: httpx.Client) -> None:
        for n in range(3):
            client.post("/insert", json={"event": "resumed", "data": n}).raise_for_status()
        log = client.get("/collections/resumed").json()
        with streaming(host, "/live/events", last_id=log[0]["id"]) as stream:
            frames = stream.wait("$ready")
        assert [frame.data for frame in frames if frame.event == "resumed"] == ["1", "2"]

    def test_a_client_that_leaves_is_noticed(self, host: HostProcess, client: httpx.Client) -> None:
        with streaming(host, "/live/events") as stream:
            stream.wait("$ready")
            assert _subscribers(client) == 1
        wait_for(lambda: _subscribers(client) == 0, what="the subscriber's end")

    def test_a_reader_that_rested_gets_every_record_once(self, host: HostProcess, client: httpx.Client) -> None:
        data = "x" * 100_000
        with socket.create_connection(("127.0.0.1", host.port)) as rests:
            rests.sendall(b"GET /live/events?event=rested HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for n in range(100):
                body = {"event": "rested", "data": [n, data]}
                client.post("/insert", json=body, headers={"Prefer": "return=minimal"}).raise_for_status()
            reader = StreamReader(rests)
            reader.start()
            numbers = [frame.json()[0] for frame in reader.wait("rested", 100) if frame.event == "rested"]
            reader.close()
        assert numbers == list(range(100))

    def test_the_address_of_the_next_page_is_below_the_mount(self, client: httpx.Client) -> None:
        for n in range(3):
            client.post("/insert", json={"event": "paged/n", "data": n}).raise_for_status()
        first = client.get("/collections/paged/n", params={"limit": 2})
        second = client.get(first.url.join(first.links["next"]["url"]))
        assert [record["data"] for record in first.json() + second.json()] == [0, 1, 2]

    def test_an_unknown_address_below_the_mount_is_answered_by_broker(self, client: httpx.Client) -> None:
        answer = client.get("/nothing", headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"

    def test_documents_are_served_below_the_mount(self, client: httpx.Client) -> None:
        assert client.get("/openapi.json").json()["servers"] == [{"url": "."}]
        assert 'href="openapi.json"' in client.get("/docs").text


def test_a_host_that_stops_ends_its_streams(tmp_path: Path) -> None:
    with HostProcess(tmp_path, STARLETTE) as host, streaming(host, "/live/events") as stream:
        stream.wait("$ready")
        assert host.stop() == 0
        wait_for(lambda: stream.ended, what="the stream's end")
        assert stream.ended == "cleanly"
        assert not any("Traceback" in line for line in host.log)


def test_an_app_by_itself_runs_its_own_lifespan(tmp_path: Path) -> None:
    source = "from broker import create_app\napp = create_app()\n"
    with HostProcess(tmp_path, source, mount="") as host, host.client("ada") as ada:
        ada.post("/insert", json={"event": "alone", "data": 1}).raise_for_status()
        with streaming(host) as stream:
            assert [frame.event for frame in stream.wait("$ready")] == ["alone", "$ready"]
        assert (tmp_path / "tmp" / "broker.db").exists()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_broker_run_serves_until_sigterm_and_exits_with_0(tmp_path: Path) -> None:
    port = _free_port()
    source = 'import uvloop\nfrom broker import broker_run\n\nuvloop.run(broker_run("http://localhost:3000"))\n'
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        env=os.environ | {"BROKER_PORT": str(port)},
        stderr=subprocess.PIPE,
    )
    library = ServerProcess(tmp_path, port=port)
    with process:
        try:
            wait_for(lambda: process.poll() is not None or _answers(port), what="the server's start")
            with library.client() as client, streaming(library) as stream:
                stream.wait("$ready")
                answer = client.get("/healthz", headers={"Origin": "http://localhost:3000"})
                assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=20)
                wait_for(lambda: stream.ended, what="the stream's end")
        finally:
            process.kill()
    assert (process.returncode, stream.ended) == (0, "between chunks"), errors
    assert f"Broker serves on http://127.0.0.1:{port}" in errors.decode()
    assert (tmp_path / "tmp" / "broker.db").exists()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False
