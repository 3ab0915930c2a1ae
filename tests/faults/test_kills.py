"""A short run of what ``make soak`` does for long: nothing is lost, doubled, reordered or early."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

from tests.faults.run import Run
from tests.operators import broker, told

KILLS = 8


def test_killed_again_and_again_under_load_nothing_is_lost_doubled_reordered_or_early(tmp_path: Path) -> None:
    run = Run(tmp_path, seed=1)
    asyncio.run(run_faults(run))
    assert "no faults" in told(broker("verify", "--data", tmp_path))
    print("\n" + "\n".join(f"{count:8,} {what}" for what, count in run.counts.items()))
    assert run.counts["SIGKILL"] == KILLS
    assert run.counts["inserts acknowledged"] > 500
    assert run.counts["connections cut within a frame"] > 0
    assert run.counts["snapshots cut"] > 0
    assert run.counts["cancelled"] > 0
    assert run.counts["too late to cancel"] > 0


async def run_faults(run: Run) -> None:
    dice = random.Random(run.seed)

    async def trouble(run: Run) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.1, 1.5))
            await run.kill()
        await asyncio.sleep(dice.uniform(0.1, 1))
        await run.kill(signal.SIGTERM)
        await asyncio.sleep(dice.uniform(0.1, 1))
        await run.freeze(1.0)

    assert await run.go(trouble) == []
