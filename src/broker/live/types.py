"""The types of the data, which are inferred from the latest records of the events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from itertools import chain

from broker.errors import NotFound
from broker.live.access import Access
from broker.live.frames import Frame
from broker.live.listing import Selection, select
from broker.live.reads import Reads
from broker.live.relay import Relay
from broker.live.turns import Turns
from broker.names import Filter
from broker.records import REMOVAL, EventId
from broker.schema import DIALECT, SAMPLES_MAX, OutOfTime, infer
from broker.settings import MIB, Settings
from broker.store.base import Store
from broker.typescript import declarations
from broker.users import Actor

# How long it may take to infer types, and for how long this may hold the interpreter before other threads have their
# turn, which is as long.
_INFERRING_S = 5.0
_TURN_S = 0.001
_EXAMINED_MAX = 100  # records of the log among which the older versions of an event are looked for
_PAGE_BYTES = 1 * MIB


class Types:
    """Infers types for one caller at a time, because that takes a thread, and turns of the interpreter.

    Mutable state: the newest declarations of those who may read everything, with the id as of which they are; and
    whether the node stops."""

    def __init__(self, store: Store, relay: Relay, access: Access, reads: Reads, settings: Settings) -> None:
        self._store = store
        self._relay = relay
        self._access = access
        self._reads = reads
        self._turns = Turns("types", settings)
        self._declarations: tuple[EventId, bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Makes a thread that infers types finish soon."""
        self._stopped = True

    async def schema(
        self, filter: Filter, title: str, actor: Actor, versions: int = 1, client: str = ""
    ) -> tuple[EventId, bytes]:
        """Returns the schema, as JSON, that the latest records of the selected events have in common, and the id as of
        which they are the latest. Only events that the actor may read, and only the newest of these records, count; and
        if it is one event with several ``versions``, so do its versions before the latest. ``client`` is who asks, for
        ``Turns``. Raises NotFound if no such event has state, Unauthorized if the actor's token is not valid any more,
        and Unavailable."""
        async with self._turns.turn(client):
            # The request may have waited for long, so nothing that was known before counts from here on. What is read
            # from the store below is older than this, so the rights as of now decide on it, too.
            event_id, view = self._state_id(), self._access.view_of(actor)
            selection = Selection(filter, newest_first=True, limit=SAMPLES_MAX)
            frames, _ = await select(self._relay.snapshot, selection, self._access.reading(actor))
            self._reads.check_again(actor, view, (frame.event for frame in frames))
            if not frames:
                raise NotFound("no event of this name has state: nothing was inserted yet, or it is removed")
            older = await self._older(frames[0], versions - 1) if versions > 1 else []
            samples = chain((frame.record().data for frame in frames), older)
            return event_id, await asyncio.to_thread(_schema_json, title, samples, self._out_of_time())

    async def declarations(self, actor: Actor, client: str = "") -> tuple[EventId, bytes]:
        """Returns TypeScript that declares the types of the latest records of all events that the actor may read, and
        the id as of which they are the latest. For those who may read everything, it is made once for each id. Raises
        Unauthorized if the actor's token is not valid any more, and Unavailable."""
        asked = self._state_id()
        async with self._turns.turn(client):
            self._reads.check(actor)
            view, reading = self._access.view_of(actor), self._access.reading(actor)
            known = self._declarations if reading is None else None
            # While this caller waited, they may have been made for another one.
            if known is None or known[0].epoch != asked.epoch or known[0].position < asked.position:
                event_id = self._state_id()
                frames, _ = await select(self._relay.snapshot, Selection(), reading)
                self._reads.check_again(actor, view, (frame.event for frame in frames))
                text = await asyncio.to_thread(declarations, frames, self._out_of_time())
                known = event_id, text.encode()
                if reading is None:
                    self._declarations = known
            return known

    def _state_id(self) -> EventId:
        return EventId(self._relay.epoch, self._relay.position)

    async def _older(self, latest: Frame, versions: int) -> list[bytes]:
        """Returns the data of the newest versions of an event that were published before this one."""
        found: list[bytes] = []
        after, page = None, await self._store.log_end(latest.event, None, _EXAMINED_MAX, descending=True)
        while page.last is not None and after != page.last and len(found) < versions:
            records = await self._store.log(latest.event, after, page.last, _PAGE_BYTES, descending=True)
            after = records[-1].number
            found += [
                record.data
                for record in records
                if record.position is not None and record.position < latest.position and record.data != REMOVAL
            ]
        return found[:versions]

    def _out_of_time(self) -> OutOfTime:
        """Returns a function that a thread which infers types calls again and again. It gives the other threads of this
        process their turns, and returns whether the thread should finish, because its time is over or the node
        stops."""
        began = time.monotonic()
        deadline = began + _INFERRING_S

        def out_of_time() -> bool:
            nonlocal began
            now = time.monotonic()
            if now - began > _TURN_S:
                time.sleep(_TURN_S)
                began = now = time.monotonic()
            return now > deadline or self._stopped

        return out_of_time


def _schema_json(title: str, samples: Iterable[bytes], out_of_time: OutOfTime) -> bytes:
    schema = {"$schema": DIALECT, "title": title} | infer(samples, out_of_time)
    # A key may contain half a surrogate pair, which UTF-8 cannot express; its escape is valid JSON.
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace") + b"\n"
