"""A run under faults: publishers and subscribers that remember everything, against nodes that are killed and stopped.

Used by ``test_kills.py`` for some seconds, and by ``make soak`` for as long as one likes."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tests.faults.history import History, Insert, Seen, View, check, read_log, read_postgres_log
from tests.support.postgres import PostgresServer, a_database
from tests.support.servers import ServerProcess

NODES = 3
SETTLE_S = 30.0  # after the last fault all must be there
PATIENCE_S = 1.5  # of a client that hears nothing, before it goes on at another node
GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass
class Run:
    """Nodes on one log, and all that is done to them. The dice are seeded: a run can be done again."""

    folder: Path
    seed: int
    postgres: PostgresServer | None = None  # of its own, for three nodes; none: SQLite, and one node
    subscribers: int = 50  # that resume for as long as the run goes
    newcomers: int = 10  # that begin anew with a snapshot, again and again
    publishers: int = 8
    pause_s: float = 0.02  # of a publisher between two inserts, at most
    inserts: int = 0  # acknowledged, at least, before it ends
    history: History = field(default_factory=History)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._database = a_database(self.postgres.url) if self.postgres else ""
        self.nodes = (
            [ServerProcess(self.folder / f"{n}", database=self._database) for n in range(NODES)]
            if self.postgres
            else [ServerProcess(self.folder)]
        )
        self._token = ""
        self._stop = False

    async def go(self, trouble: Callable[[Run], Awaitable[None]]) -> list[str]:
        """Everything that was wrong."""
        await self.start(*self.nodes)
        self._token = await asyncio.to_thread(self.nodes[0].token, "publisher")
        async with proxy(self) as port:
            listening = [
                asyncio.create_task(self._listen(n, port if n % 2 else None, 0.0)) for n in range(self.subscribers)
            ]
            await self._until(self._all_ready, "every subscriber connects")
            listening += [
                asyncio.create_task(self._listen(n, port, 0.02))
                for n in range(self.subscribers, self.subscribers + self.newcomers)
            ]
            publishing = [
                asyncio.create_task(self._publish(random.Random(f"{self.seed}-{n}"))) for n in range(self.publishers)
            ]
            await trouble(self)
            await self._until(
                lambda: self.counts["inserts acknowledged"] >= self.inserts, f"{self.inserts} inserts are acknowledged"
            )
            self._stop = True
            await asyncio.wait_for(asyncio.gather(*publishing), SETTLE_S)
            await self._until(self._complete, "every subscriber has everything")
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
        await self.stop(signal.SIGTERM, *self.nodes)
        self.faults += [line for node in self.nodes for line in node.log if "Traceback" in line]
        log = read_postgres_log(self._database) if self._database else read_log(self.folder / "broker.db")
        self.counts["records in the log"] = len(log)
        self.counts["frames received"] = sum(len(view.seen) for view in self.history.views)
        return [*self.faults, *check(self.history, log)]

    def _complete(self) -> bool:
        """Nothing is pending, and every subscriber has got as many as were published."""
        last_due_us = max((insert.due_us or 0 for insert in self.history.inserts.values()), default=0)
        if time.time_ns() // 1_000 < last_due_us + 100_000:
            return False
        cancelled = sum(insert.cancel == "cancelled" for insert in self.history.inserts.values())
        head = len(self.history.inserts) - cancelled
        return self._all_ready() and all(view.left or view.position >= head for view in self.history.views)

    def _all_ready(self) -> bool:
        return all(view.left or view.snapshot_end is not None for view in self.history.views)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not condition():
            if time.monotonic() > deadline:
                self.faults.append(f"within {SETTLE_S:.0f} s it did not come true that {what}")
                return
            await asyncio.sleep(0.02)

    # Faults

    async def start(self, *nodes: ServerProcess) -> None:
        await asyncio.gather(*[asyncio.to_thread(node.start) for node in nodes])

    async def stop(self, number: int, *nodes: ServerProcess) -> None:
        await asyncio.gather(*[asyncio.to_thread(node.stop, number) for node in nodes])

    async def kill(self, *nodes: ServerProcess, number: int = signal.SIGKILL) -> None:
        """At the same time; and starts them again."""
        await self.stop(number, *nodes)
        self.counts[signal.Signals(number).name] += len(nodes)
        await self.start(*nodes)

    async def freeze(self, node: ServerProcess, seconds: float) -> None:
        node.process.send_signal(signal.SIGSTOP)
        self.counts["SIGSTOP"] += 1
        await asyncio.sleep(seconds)
        node.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def without_postgres(self, mode: str) -> AsyncIterator[None]:
        assert self.postgres is not None
        await asyncio.to_thread(self.postgres.stop, mode)
        self.counts[f"PostgreSQL stopped ({mode})"] += 1
        yield
        await asyncio.to_thread(self.postgres.start)

    def another(self, node: ServerProcess | None, dice: random.Random) -> ServerProcess:
        """Where a client goes on that has lost its connection to ``node``."""
        return dice.choice([each for each in self.nodes if each is not node] or self.nodes)

    # Publishers

    async def _publish(self, dice: random.Random) -> None:
        client = Client(self, self._token, dice)
        while not self._stop:
            insert = Insert(str(uuid4()))
            if dice.random() < 0.2:
                insert.due_us = time.time_ns() // 1_000 + dice.randrange(50_000, 3_000_000)
            self.history.inserts[insert.uuid] = insert
            await self._insert(client, insert)
            if insert.due_us is not None and dice.random() < 0.4:
                await asyncio.sleep(max(0.0, insert.due_us / 1e6 - time.time()) * dice.choice([0, 0.5, 1, 1]))
                await self._cancel(client, insert)
            await asyncio.sleep(dice.uniform(0, self.pause_s))
        client.close()

    async def _insert(self, client: Client, insert: Insert) -> None:
        timestamp = (
            "" if insert.due_us is None else f',"timestamp":{insert.due_us // 10**6}.{insert.due_us % 10**6:06d}'
        )
        data = json.dumps({"uuid": insert.uuid, "text": "some forty characters of an ordinary event"})
        body = f'{{"event":"{insert.uuid[:2]}","uuid":"{insert.uuid}","data":{data}{timestamp}}}'.encode()
        status, answer = await self._insist(client, "/insert", body)
        if status not in (200, 201):
            self.faults.append(f"an insert was answered {status}: {answer!r}")
            return
        record = json.loads(answer)
        insert.acknowledged = True
        insert.position = int(record["id"].rpartition("-")[2]) if record["id"] else None
        self.counts["inserts acknowledged"] += 1
        self.counts["inserts acknowledged, of scheduled records"] += insert.due_us is not None
        # Such an insert is answered with 200; an insert that is stored now is answered with 201.
        only_again = "inserts acknowledged only when they were sent again, although an earlier request had stored them"
        self.counts[only_again] += status == 200

    async def _cancel(self, client: Client, insert: Insert) -> None:
        status, answer = await self._insist(client, f"/cancel/{insert.uuid}", b"{}")
        if status not in (200, 409):
            self.faults.append(f"a cancellation was answered {status}: {answer!r}")
            return
        insert.cancel = "cancelled" if status == 200 else "too late"
        self.counts["cancelled" if status == 200 else "too late to cancel"] += 1

    async def _insist(self, client: Client, path: str, body: bytes) -> tuple[int, bytes]:
        """Sends it again, to another node, until it is answered by something else than 503."""
        while True:
            answer = await client.post(path, body)
            if answer is not None and answer[0] != 503:
                return answer
            client.close()
            self.counts["requests sent again"] += 1
            await asyncio.sleep(0.05)

    # Subscribers

    async def _listen(self, number: int, proxy: int | None, leaves: float) -> None:
        """``proxy``: the port of one to go through. ``leaves``: how probable it is, at each part that comes, that it
        goes away and begins anew."""
        dice = random.Random(f"{self.seed}-listener-{number}")
        patience_s = PATIENCE_S if number % 4 < 2 else None
        node: ServerProcess | None = None
        view = View()
        self.history.views.append(view)
        last_id = b""
        while True:
            with suppress(*GONE):
                node = self.another(node, dice)
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy or node.port, limit=1 << 22)
                try:
                    resume = b"Last-Event-ID: %b\r\n" % last_id if last_id else b""
                    writer.write(b"GET /events HTTP/1.0\r\nHost: x\r\n%b\r\n" % resume)
                    rest = b""
                    while part := await asyncio.wait_for(reader.read(1 << 16), patience_s):
                        *frames, rest = (rest + part).split(b"\n\n")
                        for frame in frames:
                            last_id = _take(frame, view) or last_id
                        if dice.random() < 0.002:
                            self.counts["pauses of a reader"] += 1
                            await asyncio.sleep(dice.uniform(0, 2))
                        if dice.random() < leaves and not self._stop:
                            view.left = True
                            break
                        if len(self.nodes) > 1 and dice.random() < 0.005:
                            self.counts["moves to another node"] += 1
                            break
                    if view.snapshot_end is None and view.seen:
                        self.counts["snapshots cut"] += 1
                finally:
                    writer.transport.abort()
            if view.left:
                self.counts["snapshots"] += view.snapshot_end is not None
                view, last_id = View(), b""
                self.history.views.append(view)
            await asyncio.sleep(dice.choice([0, dice.uniform(0, 0.3)]))  # 0: before another node has heard the same


def _take(frame: bytes, view: View) -> bytes:
    """The id that the reader resumes from; an unfinished frame is none, as in a browser."""
    fields = dict(line.split(b": ", 1) for line in frame.splitlines() if b": " in line and not line.startswith(b":"))
    match fields.get(b"event"):
        case None:
            pass
        case b"$ready":
            if view.snapshot_end is None:
                view.snapshot_end = _position(fields[b"id"])
        case b"$reset":
            view.resets += 1
        case b"$skipped":
            view.skips += 1
        case _:
            uuid = json.loads(fields[b"data"])["uuid"]
            view.seen.append(Seen(_position(fields[b"id"]), uuid, time.time_ns() // 1_000))
    return fields.get(b"id", b"")


def _position(last_id: bytes) -> int:
    return int(last_id.rpartition(b"-")[2])


class Client:
    """One connection, made again to another node when it is lost. Mutable state: the connection, and to which."""

    def __init__(self, run: Run, token: str, dice: random.Random) -> None:
        self._run = run
        self._token = token.encode()
        self._dice = dice
        self._node: ServerProcess | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Status and body; None if the connection was lost, and the request may have been done or not."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._post(path, body)
        except GONE:
            self.close()
            return None

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._node = self._run.another(self._node, self._dice)
            self._streams = await asyncio.open_connection("127.0.0.1", self._node.port)
        reader, writer = self._streams
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path.encode(), self._token, len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        answer = await reader.readexactly(int(length[1]))
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@asynccontextmanager
async def proxy(run: Run) -> AsyncIterator[int]:
    """Passes connections on to any node, and cuts each one off after a random number of bytes: within a frame."""
    dice = random.Random(f"{run.seed}-proxy")
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        left = int(dice.expovariate(1 / 300_000))
        try:
            with suppress(*GONE, asyncio.CancelledError):  # asyncio would ask a cancelled one for its exception
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", run.another(None, dice).port)
                try:
                    up_writer.write(await reader.readuntil(b"\r\n\r\n"))
                    while part := await up_reader.read(4_096):
                        writer.write(part[:left])
                        left -= len(part)
                        if left <= 0:
                            run.counts["connections cut within a frame"] += 1
                            break
                        await writer.drain()
                    await writer.drain()
                finally:
                    up_writer.transport.abort()
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
