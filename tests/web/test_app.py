"""Broker as a library: mounted in other applications under plain Uvicorn, and `broker_run`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message, Scope

from broker import Settings, broker_run, create_app
from broker.errors import SettingsError
from broker.names import check_name
from broker.records import NewRecord, make_uuid
from broker.web.app import App
from tests.support.hosts import FASTAPI, STARLETTE, HostProcess
from tests.support.servers import ServerProcess, StreamReader, streaming, wait_for

pytestmark = pytest.mark.anyio

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
        ada.post("/insert", json={"event": "alone", "data": None}).raise_for_status()
        with streaming(host) as stream:
            assert [frame.event for frame in stream.wait("$ready")] == ["alone", "$ready"]
        assert (tmp_path / "tmp" / "broker.db").exists()


async def _get(app: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/live/events", "/live/users/me", "/live/docs", "/live/nothing"])
async def test_a_mounted_app_that_was_not_started_answers_503_saying_so(tmp_path: Path, path: str) -> None:
    app = Starlette(routes=[Mount("/live", create_app(Settings(data=tmp_path)))])
    answer = await _get(app, path)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "lifespan" in answer.json()["detail"]


class Stream:
    """``GET /events`` of an app, driven by hand: its ``send`` takes nothing while ``goes`` is not set."""

    def __init__(self, app: App, event: str) -> None:
        self.taken = b""
        self.more = asyncio.Event()
        self.goes = asyncio.Event()
        self.goes.set()
        self.left = asyncio.Event()
        scope: Scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/events", "raw_path": b"/events",
            "query_string": f"event={event}".encode(), "headers": [], "root_path": "",
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.goes.wait()
        self.taken += message.get("body", b"")
        self.more.set()

    async def has(self, text: bytes) -> None:
        async with asyncio.timeout(20):
            while text not in self.taken:
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def _running(folder: Path, **settings: Any) -> AsyncIterator[App]:
    app = create_app(Settings(data=folder, **settings))
    async with app.lifespan():
        yield app


async def _insert(app: App, event: str, data: bytes) -> None:
    await app.broker.insert([NewRecord(make_uuid(0), check_name(event), data, "ada")])


class TestWithoutHandover:
    """What stands in for a connection that a server does not hand over: no more is kept for a reader than for a
    socket's."""

    async def test_a_slow_reader_costs_a_bounded_amount_of_memory_and_loses_nothing(self, tmp_path: Path) -> None:
        async with _running(tmp_path, subscriber_buffer_bytes=50_000) as app:
            stream = Stream(app, "slow")
            await stream.has(b"$ready")
            stream.goes.clear()
            (subscriber,) = app.broker.hub.subscribers
            for n in range(200):
                await _insert(app, "slow", b'"%d %s"' % (n, b"x" * 10_000))
            assert subscriber.paused
            assert subscriber.transport.get_write_buffer_size() < 100_000  # of 2,000,000
            stream.goes.set()
            await stream.has(b'data: "199 ')
            numbers = [int(part.split()[0]) for part in stream.taken.split(b'data: "')[1:]]
            assert numbers == list(range(200))
            stream.left.set()
            await asyncio.wait_for(stream.task, 20)
            assert not app.broker.hub.subscribers

    async def test_a_reader_that_takes_nothing_is_cut_off(self, tmp_path: Path) -> None:
        async with _running(tmp_path, subscriber_buffer_bytes=1_000, subscriber_stall_s=0.1) as app:
            stream = Stream(app, "stalled")
            await stream.has(b"$ready")
            stream.goes.clear()
            for _ in range(2):
                await _insert(app, "stalled", b'"%s"' % (b"x" * 10_000))
            await asyncio.wait_for(stream.task, 20)
            assert not app.broker.hub.subscribers

    async def test_a_stop_ends_a_stream_with_all_that_was_written_to_it(self, tmp_path: Path) -> None:
        async with _running(tmp_path) as app:
            stream = Stream(app, "ended")
            await stream.has(b"$ready")
            await _insert(app, "ended", b'"the last"')
        await asyncio.wait_for(stream.task, 20)
        assert stream.taken.endswith(b'data: "the last"\n\n')


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


async def test_broker_run_names_a_setting_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="unknown settings: colour"):
        await broker_run("*", colour="blue")
