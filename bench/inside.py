"""Broker as the benchmark needs it from within: ``python -m bench.inside storeless|turns|memory broker-arguments...``

``storeless`` answers inserts without storing them: what is left is the cost of HTTP, JSON, tokens and fan-out.
``turns`` writes the longest turn of the event loop, in milliseconds, into the file ``turns`` of the data folder.
``memory`` writes into ``memory``, each time that there is no such file, how many bytes live by the file that made them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import broker.broker
import broker.server.run
import broker.store.choice
from broker.cli.main import main
from broker.records import NewRecord, Record
from broker.store.base import Commit, Item, Result
from broker.store.sqlite.store import SQLiteStore
from broker.users import OPERATOR, Actor

_TICK_S = 0.001


class Storeless(SQLiteStore):
    """Records get their positions and are published; they are in no file. Users are kept as ever."""

    async def start(self, on_commit: Callable[[Commit], None]) -> None:
        self._told = on_commit
        self._now = broker.store.choice.wall_clock_us
        self._position = 0
        await super().start(on_commit)
        self._epoch = (await self.head()).epoch

    def append(self, items: Sequence[Item], actor: Actor = OPERATOR, user: str = "") -> asyncio.Future[list[Result]]:
        now_us = self._now()
        published = []
        for new in items:
            assert isinstance(new, NewRecord), "nothing is pending here, so there is nothing to cancel"
            self._position += 1
            published.append(
                Record(
                    new.uuid, new.event, new.data, new.user, new.timestamp, now_us, new.log_only, now_us,
                    False, self._position, now_us, self._position, self._epoch,
                )
            )  # fmt: skip
        self._told(Commit(published, self._position, None, self._epoch))
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        future.set_result([(record, True) for record in published])
        return future


class Watched(broker.broker.Broker):
    """Broker with one more task."""

    async def start(self, *, also_unconfirmed: bool = False) -> None:
        await super().start(also_unconfirmed=also_unconfirmed)
        watch = _count if tracemalloc.is_tracing() else _watch
        self._probe = asyncio.create_task(watch(self.settings.data), name="probe")


async def _watch(folder: Path) -> None:
    """Late by as much as other turns take."""
    file = folder / "turns"
    longest = written = 0.0
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_TICK_S)
        longest = max(longest, time.perf_counter() - before - _TICK_S)
        if time.perf_counter() - written > 1:
            written = time.perf_counter()
            file.write_text(f"{longest * 1e3:.2f}")
            if not (folder / "turns-go").exists():  # until told: what came before does not count
                longest = 0.0


async def _count(folder: Path) -> None:
    file, part = folder / "memory", folder / "memory-part"
    while True:
        await asyncio.sleep(0.1)
        if not file.exists():
            gc.collect()
            found = tracemalloc.take_snapshot().statistics("filename")
            by_file = {"/".join(Path(each.traceback[0].filename).parts[-2:]): each.size for each in found}
            part.write_text(json.dumps(by_file))
            part.rename(file)


if __name__ == "__main__":
    what = sys.argv.pop(1)
    if what == "storeless":
        vars(broker.broker)["SQLiteStore"] = Storeless  # the one place that makes a store
    elif what in ("turns", "memory"):
        if what == "memory":
            tracemalloc.start()
        vars(broker.server.run)["Broker"] = Watched  # the one place that makes the Broker of a process
    else:
        raise SystemExit(f"{what}: storeless, turns or memory")
    main()
