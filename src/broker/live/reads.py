"""What readers get from the store: the log of an event, what is pending, and the records of a state of another time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from uuid import UUID

from broker.errors import BadRequest, Unauthorized, Unavailable
from broker.live.access import Access
from broker.live.relay import Relay
from broker.names import Filter, check_name
from broker.records import Record
from broker.rules.rights import is_rights_event, refuse
from broker.settings import KIB, MIB
from broker.store.base import LogPage, Store, Version
from broker.users import Actor

_PORTION_BYTES = 1 * MIB
_PENDING_RECORDS = 500  # pending records that are read at a time
_STATE_RECORDS, _STATE_BYTES = 250, 128 * KIB  # of a state of another time, that are read at a time


class Reads:
    """Reads the store for one reader, and sees to it that nothing is shown behind the end of a right.

    The danger: a node judges by the rights as of its relay's position, and the store may be further: another node has
    written to it, or the relay is still reading the records of a large commit. Then a read finds records that were
    inserted after the reader's right had ended, and by the rights that the node knows, it would show them. So whatever
    was read is judged only after ``settled``, and there is no ``await`` from the end of ``settled`` to the judgement.

    A client may take hours to read a response, so each portion is judged again. A response that has begun has no status
    for a refusal any more; the error closes the connection before the end of the response, so that no client takes it
    for a complete one."""

    def __init__(self, store: Store, relay: Relay, access: Access) -> None:
        self._store = store
        self._relay = relay
        self._access = access

    # Judging

    async def settled(self, actor: Actor) -> None:
        """Returns when this node knows the rights as of everything that was read from the store before this call, or
        later ones. Raises Unavailable, and Unauthorized if the actor's token is not valid any more.

        Nobody's right can end without rules and without changes to users. Then the store is not asked."""
        if self._access.rights.version.position:
            # The head is asked for after the read, so it is not before what the read has found.
            head = await self._store.head()
            if head.epoch != self._relay.epoch:
                raise Unavailable("this node has not read the new epoch of the log yet; ask again in a moment")
            await self._relay.caught_up(head.position)
        self.check(actor)

    def check(self, actor: Actor) -> None:
        """Raises Unauthorized if the actor's token is not valid any more, and Unavailable if the rules cannot be
        used."""
        self._access.rights.check()
        if not actor.is_valid_or_newer(self._access.rights.state(actor.user_id)):
            raise Unauthorized("the token is not valid any more; log in again")

    def check_again(self, actor: Actor, view: tuple[object, ...], events: Iterable[str]) -> None:
        """Checks before some records are shown, which were selected earlier: ``view`` is what ``Access.view_of`` has
        returned before that. Raises Unavailable if the reader may not read one of these events any more, and what
        ``check`` raises."""
        self.check(actor)
        if self._access.view_of(actor) != view:
            reading = self._access.reading(actor)
            if reading is not None and not all(map(reading, events)):
                raise _changed()

    def _demand_log(self, event: str, actor: Actor) -> None:
        if not self._access.allows("log", event, actor):
            refuse(actor, "log")

    # An event's log

    async def log_page(
        self, event: str, after: UUID | None, records_max: int | None, descending: bool, actor: Actor
    ) -> tuple[LogPage, AsyncIterator[list[Record]]]:
        """Returns where the page ends, and the page's records in portions of about a mebibyte. ``after`` is the uuid of
        the record that the page follows. Raises BadRequest if the event has no such record, and Forbidden, whether or
        not there is such an event. Each portion may raise Forbidden, Unauthorized and Unavailable."""
        check_name(event[1:] if is_rights_event(event) else event)
        self._demand_log(event, actor)
        start = None if after is None else await self._store.number_of(event, after)
        page = LogPage(None, None, more=False)
        if start is not None or after is None:
            page = await self._store.log_end(event, start, records_max, descending)
        if page.last is None:  # that there is no record says something about the log, too
            await self.settled(actor)
            self._demand_log(event, actor)
            if after is not None and start is None:
                raise BadRequest(f"after: this event has no record with the uuid {after}")
        return page, self._log(event, start, page.last, descending, actor)

    async def _log(
        self, event: str, after: int | None, last: int | None, descending: bool, actor: Actor
    ) -> AsyncIterator[list[Record]]:
        while last is not None and after != last:
            records = await self._store.log(event, after, last, _PORTION_BYTES, descending)
            await self.settled(actor)
            self._demand_log(event, actor)
            after = records[-1].number
            yield records

    # What is pending

    async def pending(self, filter: Filter, after: UUID | None, actor: Actor) -> AsyncIterator[list[Record]]:
        """Returns the pending records that match the filter, by due time, in portions of about a mebibyte: those of the
        actor, and those of events whose log the actor may read. ``after`` is the uuid of the record that they follow;
        it may have been published in the meantime. Raises BadRequest if there is no such record. Each portion may raise
        Unauthorized and Unavailable."""
        start = None
        if after is not None:
            start = await self._store.due_of(after)
            # Whoever may not see the record would learn from the page that there is one, and when it is due.
            found = [] if start is None else await self._store.records([start[1]], 1)
            await self.settled(actor)
            if not any(self._shows_pending(record, actor) for record in found):
                raise BadRequest(f"after: no record has the uuid {after}")
        return self._pending(filter, start, actor)

    async def _pending(
        self, filter: Filter, after: tuple[int, int] | None, actor: Actor
    ) -> AsyncIterator[list[Record]]:
        while records := await self._store.pending(after, _PENDING_RECORDS, _PORTION_BYTES):
            await self.settled(actor)
            after = records[-1].due_us, records[-1].number
            matching = [record for record in records if filter.matches(record.event)]
            if shown := [record for record in matching if self._shows_pending(record, actor)]:
                yield shown

    def _shows_pending(self, record: Record, actor: Actor) -> bool:
        mine = actor.username != "" and record.user == actor.username
        return mine or self._access.allows("log", record.event, actor)

    # A state of another time

    async def versions(
        self, versions: Sequence[Version], actor: Actor, view: tuple[object, ...]
    ) -> AsyncIterator[list[Record]]:
        """Returns the records of these versions in portions. ``view`` is as in ``check_again``. Raises Unavailable if
        one of them does not exist any more, because a fail-over has lost the end of the log in the meantime, or if the
        actor may not see it any more; and Unauthorized."""
        start = 0
        while start < len(versions):
            asked = versions[start : start + _STATE_RECORDS]
            records = await self._store.records([version.number for version in asked], _STATE_BYTES)
            known = [(version.number, version.event) for version in asked[: len(records)]]
            if not records or known != [(record.number, record.event) for record in records]:
                raise Unavailable("the log has lost a part of this state meanwhile; ask again in a moment")
            await self.settled(actor)
            self.check_again(actor, view, (record.event for record in records))
            if not all(self._shows_pending(record, actor) for record in records if record.position is None):
                raise _changed()
            start += len(records)
            yield records


def _changed() -> Unavailable:
    return Unavailable("what you may read has changed while it was read; ask again in a moment")
