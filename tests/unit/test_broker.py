"""The life of a Broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker import Broker, Settings
from broker.errors import SettingsError, Unavailable
from broker.settings import read_settings

pytestmark = pytest.mark.anyio


async def test_a_broker_is_started_once_and_says_so(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan():
        with pytest.raises(RuntimeError, match="started once"):
            await broker.start()
    with pytest.raises(RuntimeError, match="make another one"):
        await broker.start()


async def test_stopping_twice_or_unstarted_does_nothing(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path))
    await broker.stop()
    with pytest.raises(Unavailable, match="not running"):
        await broker.ready()
    await broker.start()
    await broker.ready()
    await broker.stop()
    await broker.stop()


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "broker.db").mkdir()
        with pytest.raises(SettingsError, match=r"broker\.db"):
            await Broker(Settings(data=tmp_path)).start()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"data": "/proc/nowhere"}, "data (BROKER_DATA)"),
        ({"database": "postgresql://ada@127.0.0.1:1/live"}, "database (BROKER_DATABASE)"),
        ({"database": "postgresql://ada:pass@word@127.0.0.1/live"}, "database (BROKER_DATABASE)"),
    ],
)
async def test_a_store_that_cannot_be_used_is_named_by_its_setting_and_where_that_came_from(
    given: dict[str, str], name: str
) -> None:
    environment = {f"BROKER_{name.upper()}": value for name, value in given.items()}
    with pytest.raises(SettingsError) as refusal:
        await Broker(read_settings({}, environment)).start()
    assert refusal.value.detail.startswith(f"{name}: ")
    assert "word" not in refusal.value.detail.partition(";")[0]
