"""Many clients of three nodes count together: each reads the number, adds one, and inserts it under the condition that
nobody else has counted meanwhile, while nodes are killed.

Short here; ``BROKER_BIG=1`` has 100 clients that count to 1,000."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.connection import CUT_S, Connection
from tests.support.postgres import a_database
from tests.support.servers import ServerProcess

CLIENTS, UPTO, KILLS = (100, 1_000, 10) if os.environ.get("BROKER_BIG") else (12, 120, 2)
BOUND_S = 300.0 if os.environ.get("BROKER_BIG") else 60.0
EVENT = "counter"


class Counting:
    """Mutable state: by which uuid each number was inserted, as the responses say; and counts of what happened."""

    def __init__(self, nodes: list[ServerProcess], token: str) -> None:
        self._nodes = nodes
        self._token = token
        self.uuids: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self._counted = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._count(random.Random(number)))
            group.create_task(self._kill(random.Random("kills")))

    async def _count(self, dice: random.Random) -> None:
        """Counts on until the last number is reached, whoever inserts it."""
        connection = Connection(
            lambda node: dice.choice([each for each in self._nodes if each is not node]), self._token
        )
        latest: Any = None
        while latest is None or latest["data"] < UPTO:
            number, uuid = 1 if latest is None else latest["data"] + 1, str(uuid4())
            condition = "none" if latest is None else latest[dice.choice(["id", "uuid"])]
            insert = {"event": EVENT, "data": number, "uuid": uuid, "if_latest": condition}
            cut_s = dice.choice(CUT_S) if dice.random() < 0.2 else None
            status, body, sent = await connection.insist("/insert", json.dumps(insert).encode(), cut_s=cut_s)
            answer = json.loads(body)
            self.counts["requests sent again"] += sent - 1
            if status == 412:
                latest = answer["latest"]
                self.counts["inserts refused, because somebody else was faster"] += 1
            else:
                assert status in (200, 201), (status, answer)
                assert number not in self.uuids, f"{number} was acknowledged twice"
                self.uuids[number] = uuid
                self._counted.set()
                latest = answer
                self.counts["inserts acknowledged only when they were sent again"] += status == 200
        connection.close()

    async def _kill(self, dice: random.Random) -> None:
        """Kills a node at each of so many equal parts of the count, and starts it again."""
        for kill in range(1, KILLS + 1):
            while len(self.uuids) < UPTO * kill // (KILLS + 1):
                self._counted.clear()
                await self._counted.wait()
            node = dice.choice(self._nodes)
            await asyncio.to_thread(node.stop, signal.SIGKILL)
            await asyncio.to_thread(node.start)
            self.counts["SIGKILL"] += 1


def test_clients_of_three_nodes_count_together_and_no_number_is_lost_or_doubled_by_kills(
    postgres: str, tmp_path: Path
) -> None:
    database = a_database(postgres)
    nodes = [ServerProcess(tmp_path / f"{number}", database=database) for number in range(3)]
    with nodes[0].start(), nodes[1].start(), nodes[2].start():
        counting = Counting(nodes, nodes[0].token("ada"))
        asyncio.run(counting.run())
        with nodes[0].client("ada") as ada:
            log = ada.get(f"/collections/{EVENT}").json()
            (latest,) = ada.get(f"/snapshot?event={EVENT}&last_event_id={log[-1]['id']}").json()
    print("\n" + "\n".join(f"{count:8,} {what}" for what, count in sorted(counting.counts.items())))
    assert latest["data"] == UPTO
    assert [record["data"] for record in log] == list(range(1, UPTO + 1))
    assert [record["uuid"] for record in log] == [counting.uuids[number] for number in range(1, UPTO + 1)]
    assert counting.counts["SIGKILL"] == KILLS
    assert counting.counts["inserts acknowledged only when they were sent again"] > 0
