"""The conditions under which an insert is accepted, judged within the transaction. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from broker.errors import BadRequest, Conflict, Late, NotFound, PreconditionFailed
from broker.records import EventId, NewRecord, Record
from broker.store.event_rows import EventRow

_LATE_US = 5_000_000  # a record that may not be late is refused if its time passed longer ago than this


def check_repeated(first: Record, new: NewRecord) -> Record:
    """Returns ``first`` if ``new`` repeats the same insert. Raises Conflict otherwise. Two forms of the same time are
    the same."""
    due_us = None if first.timestamp is None else first.due_us
    same = (first.user, first.event, first.data, first.log_only, due_us, first.until_us)
    if same != (new.user, new.event, new.data, new.log_only, new.due_us, new.until_us):
        raise Conflict(f"the uuid {new.uuid} belongs to another insert; make a new one for each record")
    return first


def check_times(new: NewRecord, due_us: int, now_us: int) -> None:
    """Raises Late if the record's time has passed, and it must not be published late. Raises BadRequest if the record
    would end before it is published."""
    over = new.until_us is not None and new.until_us <= now_us
    if new.late_refused and (over or due_us < now_us - _LATE_US):
        raise Late("the time of this record has passed, and it was to be refused then (late)")
    if over:
        raise BadRequest("until: this time has passed already; give a later one, or leave it out")


def check_latest(
    new: NewRecord, row: EventRow | None, by_uuid: Mapping[UUID, Record], is_of_this_log: Callable[[EventId], bool]
) -> None:
    """Raises PreconditionFailed if the latest version of the event is not the one in ``if_latest``. ``row`` is the
    event's, and ``by_uuid`` has the record that ``if_latest`` names, if it names one by its uuid."""
    position = None if row is None else row.position
    wanted = new.if_latest
    if isinstance(wanted, UUID):
        record = by_uuid.get(wanted)
        met = record is not None and record.position is not None and record.position == position
    elif isinstance(wanted, EventId):
        met = wanted.position == position and is_of_this_log(wanted)
    else:
        met = row is None or not row.has_state
    if not met:
        raise PreconditionFailed(
            "the latest version of this event is another one than if_latest says (latest); look at it, and insert "
            "again with its id"
        )


def check_cancellable(record: Record | None, uuid: UUID) -> Record:
    """Returns the record with this uuid if it is pending. Raises NotFound, if there is none, and Conflict."""
    if record is None:
        raise NotFound(f"no record has the uuid {uuid}")
    if record.log_only:
        raise Conflict("the record is log-only: it is never published, so there is nothing to cancel")
    if record.position is not None:
        raise Conflict("the record is published already; insert a newer version instead")
    return record


def revival(index: int) -> Conflict:
    """Returns the refusal of a batch that inserts records, and whose item with this index cancels what is cancelled
    already: somebody else has withdrawn it, and what belongs together must not revive in part."""
    error = Conflict(
        "the record is cancelled already, and this batch inserts new records; leave the item out, if the other ones "
        "still make sense"
    )
    error.index = index
    return error
