"""What may happen to nodes that share one PostgreSQL: each fault is over when it returns, and all run again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from tests.faults.run import Run


async def some_are_killed(run: Run, dice: random.Random) -> None:
    await run.kill(*dice.sample(run.nodes, dice.choice([1, 1, 2, 3])))


async def one_is_terminated(run: Run, dice: random.Random) -> None:
    await run.kill(dice.choice(run.nodes), number=signal.SIGTERM)


async def one_is_stopped(run: Run, dice: random.Random) -> None:
    await run.freeze(dice.choice(run.nodes), dice.uniform(0.1, 4))


async def one_is_stopped_while_another_is_killed(run: Run, dice: random.Random) -> None:
    one, other = dice.sample(run.nodes, 2)
    await asyncio.gather(run.freeze(one, dice.uniform(0.1, 4)), run.kill(other))


async def postgres_crashes(run: Run, dice: random.Random) -> None:
    async with run.without_postgres("immediate"):
        await asyncio.sleep(dice.choice([0, dice.uniform(0, 3)]))


async def postgres_is_restarted(run: Run, dice: random.Random) -> None:
    async with run.without_postgres("fast"):
        pass


async def one_is_stopped_while_postgres_crashes(run: Run, dice: random.Random) -> None:
    await asyncio.gather(run.freeze(dice.choice(run.nodes), dice.uniform(0.1, 4)), postgres_crashes(run, dice))


async def one_is_killed_while_postgres_is_away(run: Run, dice: random.Random) -> None:
    node = dice.choice(run.nodes)
    async with run.without_postgres("immediate"):
        await run.stop(signal.SIGKILL, node)
        run.counts["SIGKILL"] += 1
    await run.start(node)


Fault = Callable[[Run, random.Random], Awaitable[None]]

EACH_KIND: list[Fault] = [
    some_are_killed,
    one_is_terminated,
    one_is_stopped_while_another_is_killed,
    postgres_is_restarted,
    one_is_stopped_while_postgres_crashes,
]
FAULTS: list[Fault] = [*EACH_KIND, one_is_stopped, postgres_crashes, one_is_killed_while_postgres_is_away]
