"""Short runs of what ``make soak`` does for long: nothing is lost, doubled, reordered or early."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

from tests.faults.run import Run
from tests.faults.trouble import EACH_KIND
from tests.support.operators import broker, stderr_of
from tests.support.postgres import a_server

KILLS = 8
INSERTS = 600
# A run that lacks one of these proves less than it says.
OCCURRED = [
    "cancelled",
    "too late to cancel",
    "batches acknowledged that cancel a record and schedule another one",
    "inserts acknowledged, of removals",
    "inserts acknowledged, under a condition (if_latest)",
    "inserts refused, because the condition did not hold (if_latest)",
    "versions ended by the server",
    "versions superseded before their end",
]


def test_killed_again_and_again_under_load_nothing_is_lost_doubled_reordered_or_early(tmp_path: Path) -> None:
    run = Run(tmp_path, seed=1, inserts=INSERTS)
    asyncio.run(run_faults(run))
    assert "no faults" in stderr_of(broker("verify", "--data", tmp_path))
    print("\n" + "\n".join(f"{count:8,} {what}" for what, count in run.counts.items()))
    assert run.counts["SIGKILL"] == KILLS
    assert run.counts["connections cut within a frame"] > 0
    assert run.counts["snapshots cut"] > 0
    assert [what for what in OCCURRED if not run.counts[what]] == []


async def run_faults(run: Run) -> None:
    dice = random.Random(run.seed)

    async def trouble(run: Run) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.1, 1.5))
            await run.kill(*run.nodes)
        await asyncio.sleep(dice.uniform(0.1, 1))
        await run.kill(*run.nodes, number=signal.SIGTERM)
        await asyncio.sleep(dice.uniform(0.1, 1))
        await run.freeze(run.nodes[0], 1.0)

    assert await run.go(trouble) == []


def test_three_nodes_killed_stopped_and_without_postgres_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    with a_server() as postgres:
        run = Run(tmp_path, seed=1, postgres=postgres, inserts=INSERTS)
        asyncio.run(run_every_fault(run))
    print("\n" + "\n".join(f"{count:8,} {what}" for what, count in run.counts.items()))
    assert run.counts["snapshots"] > 0
    assert [what for what in OCCURRED if not run.counts[what]] == []


async def run_every_fault(run: Run) -> None:
    dice = random.Random(run.seed)

    async def trouble(run: Run) -> None:
        for fault in dice.sample(EACH_KIND, len(EACH_KIND)):
            await asyncio.sleep(dice.uniform(0, 0.5))
            await fault(run, dice)

    assert await run.go(trouble) == []
