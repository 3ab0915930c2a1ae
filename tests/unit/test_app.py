"""The app within this process, without a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
from broker.users import OPERATOR
from broker.web.app import App

pytestmark = pytest.mark.anyio


async def _get(app: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
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
            "query_string": f"event={event}".encode(), "headers": [], "root_path": "", "client": ("127.0.0.1", 1),
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
    await app.broker.insert([NewRecord(make_uuid(0), check_name(event), data, "ada")], OPERATOR)


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


async def test_broker_run_names_a_setting_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="unknown settings: colour"):
        await broker_run("*", colour="blue")
