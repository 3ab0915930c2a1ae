"""What is PostgreSQL's alone: many stores on one log, and what happens when the server goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.store.base import Store
from tests.postgres import a_database
from tests.test_store import Bench, positions, run


@pytest.fixture
def bench(postgres: str, tmp_path: Path) -> Bench:
    return Bench(tmp_path, a_database(postgres))


def test_two_stores_on_one_log_give_no_position_twice(bench: Bench) -> None:
    async def test(bench: Bench, store: Store) -> None:
        async with bench.opened() as other:
            await asyncio.gather(*[each.append([bench.new()]) for each in (store, other) for _ in range(100)])
            assert await positions(store) == await positions(other) == list(range(1, 201))

    run(bench, test)
