"""The checker of the fault runs: it compares what every client saw with the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.faults.history import History, Insert, Row, Seen, View


def check(history: History, log: list[Row]) -> Iterator[str]:
    """Everything that contradicts the promises. The run is over: nothing is pending, every version whose ``until`` has
    come has ended, and every subscriber has caught up."""
    rows = {row.uuid: row for row in log}
    yield from (
        f"{uuid} is in the log {count} times" for uuid, count in Counter(r.uuid for r in log).items() if count > 1
    )
    for insert in history.inserts.values():
        yield from _check_insert(insert, history.inserts, rows)
    published = sorted((row.position, row) for row in log if row.position is not None)
    for expected, (position, _) in enumerate(published, 1):
        if position != expected:
            yield f"the log's positions have a hole, or one twice: {position} in place of {expected}"
            break
    for row in log:
        yield from _check_row(row, history.inserts.get(row.uuid))
    in_order = [row for _, row in published]
    yield from _check_order(in_order, log)
    yield from _check_versions(in_order, rows, history.inserts)
    at = dict(published)
    for number, view in enumerate(history.views):
        yield from (f"subscriber {number}: {fault}" for fault in _check_view(view, at))
    for name, view in history.last.items():
        yield from (f"{name} at the end: {fault}" for fault in _check_last(view, at))


def _check_insert(insert: Insert, inserts: Mapping[str, Insert], rows: Mapping[str, Row]) -> Iterator[str]:
    row = rows.get(insert.uuid)
    if insert.refused == "not-latest" and _names(insert.if_latest, rows.get(insert.told or "")):
        yield f"{insert.uuid} was refused because of its condition, and told that {insert.told} is the latest: it held"
    if insert.beside and (row is None) != (insert.beside not in rows):
        yield f"only one of {insert.uuid} and {insert.beside} is in the log, and they were one batch"
    replaced = rows.get(insert.replaces)
    if replaced is not None and (row is not None) != replaced.cancelled:
        yield f"only one half of a batch was done, which cancels {insert.replaces} and inserts {insert.uuid}"
    if row is None:
        if insert.acknowledged:
            yield f"{insert.uuid} was acknowledged, and is not in the log"
        return
    # If the request was sent several times, one of them may be carried out after another one was refused. That is only
    # right where a condition of the request may become true again.
    beside = inserts.get(insert.beside, insert)
    if insert.refused and not (insert.sent > 1 and "none" in (insert.if_latest, beside.if_latest)):
        yield f"{insert.uuid} was refused ({insert.refused}), and is in the log"
    if insert.position is not None and insert.position != row.position:
        yield f"{insert.uuid} was acknowledged at position {insert.position}, and the log has it at {row.position}"
    if insert.event != row.event:
        yield f"{insert.uuid} is a version of {insert.event}, and the log says {row.event}"
    if insert.due_us is not None and insert.due_us != row.due_us:
        yield f"{insert.uuid} was due at {insert.due_us}, and the log says {row.due_us}"
    if insert.until_us != row.until_us:
        yield f"{insert.uuid} was to end at {insert.until_us}, and the log says {row.until_us}"
    if insert.cancel == "cancelled" and not row.cancelled:
        yield f"{insert.uuid}: its cancellation was acknowledged, and it is published at {row.position}"
    if insert.cancel == "too late" and row.position is None:
        yield f"{insert.uuid}: its cancellation was refused, and it is not published"


def _check_row(row: Row, insert: Insert | None) -> Iterator[str]:
    if (insert is None) != (row.ends is not None):
        yield f"{row.uuid} is in the log, and nobody inserted it" if insert is None else f"{row.uuid} ends {row.ends}"
    removal = insert is None or insert.removal
    if row.data_uuid != (None if removal else row.uuid):
        yield f"{row.uuid} has the data of {row.data_uuid}"
    if row.published_us is not None and row.published_us < row.due_us:
        yield f"{row.uuid} was published {row.due_us - row.published_us} µs early"
    if row.position is not None and row.cancelled:
        yield f"{row.uuid} is published and cancelled"
    if row.position is None and not row.cancelled:
        yield f"{row.uuid} was never published"


def _check_order(in_order: list[Row], log: list[Row]) -> Iterator[str]:
    """What comes by itself comes in the order of its time, at the same microsecond publications before endings, and
    then in the order of insertion."""
    number = {row.uuid: number for number, row in enumerate(log)}
    by_itself = [row for row in in_order if row.was_pending or row.ends is not None]
    keys = [(row.due_us, row.ends is not None, number[row.uuid]) for row in by_itself]
    for index in range(1, len(keys)):
        if keys[index] < keys[index - 1]:
            yield f"{by_itself[index].uuid} came after {by_itself[index - 1].uuid}, and its time was before that"


def _check_versions(in_order: list[Row], rows: Mapping[str, Row], inserts: Mapping[str, Insert]) -> Iterator[str]:
    """Goes through the published records, with the latest version of every event, and checks each condition and each
    ending against it."""
    latest: dict[str, Row] = {}
    ended: set[str] = set()
    for row in in_order:
        before = latest.get(row.event)
        insert = inserts.get(row.uuid)
        if insert is not None and insert.if_latest is not None and not _names(insert.if_latest, before):
            was = "nothing" if before is None else f"{before.uuid} at {before.position}"
            yield f"{row.uuid} is in the log, and its condition did not hold: {insert.if_latest}; the latest was {was}"
        if row.ends is not None:
            yield from _check_ending(row, before, rows, ended)
            ended.add(row.ends)
        elif before is not None and _was_over(before, row):
            yield f"{before.uuid} has no ending, and its end came before {row.uuid}"
        # null on an event without state changes nothing.
        if row.data_uuid is not None or (before is not None and before.data_uuid is not None):
            latest[row.event] = row
    for row in latest.values():
        if row.until_us is not None:
            yield f"{row.uuid} has no ending, and it is the latest version of {row.event}"


def _was_over(version: Row, later: Row) -> bool:
    """Returns whether the end of the version came before ``later``. Endings come before the records that are inserted
    in the same transaction. A record that was pending comes before an ending of the same microsecond."""
    if version.until_us is None:
        return False
    return version.until_us < later.due_us if later.was_pending else version.until_us <= later.inserted_us


def _names(if_latest: str | int | None, latest: Row | None) -> bool:
    """Returns whether the condition holds if ``latest`` is the latest version."""
    if if_latest == "none":
        return latest is None or latest.data_uuid is None
    return latest is not None and if_latest in (latest.uuid, latest.position)


def _check_ending(ending: Row, before: Row | None, rows: Mapping[str, Row], ended: set[str]) -> Iterator[str]:
    version = rows.get(ending.ends or "")
    if version is None or version.until_us is None:
        yield f"{ending.uuid} ends {ending.ends}, which has no end"
        return
    if (ending.event, ending.user, ending.due_us) != (version.event, version.user, version.until_us):
        yield f"{ending.uuid} ends {version.uuid}, and has another event, user or time than that says"
    if version.uuid in ended:
        yield f"{version.uuid} has two endings"
    elif before is None or before.uuid != version.uuid:
        yield f"{version.uuid} has an ending, and {before.uuid if before else 'nothing'} was the latest then"


def _check_view(view: View, at: dict[int, Row]) -> Iterator[str]:
    if view.resets or view.skips:
        yield f"was told to forget {view.resets} times, and skipped {view.skips} times"
    live_from = len(at) + 1 if view.snapshot_end is None else view.snapshot_end + 1
    held: dict[str, int] = {}
    before = 0
    for seen in view.seen:
        if seen.position <= before:
            yield f"got position {seen.position} after {before}"
            return
        if seen.position > max(live_from, before + 1):
            yield f"got position {seen.position} in place of {max(live_from, before + 1)}"
            return
        before = seen.position
        row = at.get(seen.position)
        if row is None or not _is_of(seen, row, records=view.records):
            got = seen.uuid or seen.data_uuid or "null"
            yield f"got {got} at position {seen.position}, where the log has {row.uuid if row else 'nothing'}"
            continue
        held.pop(row.event, None)
        if row.data_uuid is not None:
            held[row.event] = seen.position
        if seen.received_us < row.due_us:
            yield f"got {row.uuid} {row.due_us - seen.received_us} µs early"
    if view.snapshot_end is not None:
        yield from _check_state(held, _state(at, view.position))
    if not view.left and view.position != len(at):
        yield f"got {view.position} records of {len(at)}"


def _is_of(seen: Seen, row: Row, *, records: bool) -> bool:
    """Returns whether the frame shows this record."""
    if (seen.event, seen.data_uuid) != (row.event, row.data_uuid):
        return False
    return not records or (seen.uuid, seen.until_us) == (row.uuid, row.until_us)


def _state(at: dict[int, Row], upto: int) -> dict[str, int]:
    """Returns the position of the latest version of every event that is not removed."""
    state: dict[str, int] = {}
    for position, row in at.items():
        if position <= upto:
            state.pop(row.event, None)
            if row.data_uuid is not None:
                state[row.event] = position
    return state


def _check_state(held: dict[str, int], state: dict[str, int]) -> Iterator[str]:
    """From $ready on, a subscriber holds the latest version of every event that is not removed, and no others."""
    for event, position in state.items():
        if held.get(event) != position:
            yield f"holds {event} as of {held.get(event)}; its latest was at {position}"
    for event in held.keys() - state.keys():
        yield f"holds {event} as of {held[event]}, and it is removed"


def _check_last(view: View, at: dict[int, Row]) -> Iterator[str]:
    """Checks a snapshot that was taken when nothing was published any more: it has nothing but the state."""
    yield from _check_view(view, at)
    positions = {seen.position for seen in view.seen}
    for position in sorted(positions - set(_state(at, len(at)).values())):
        yield f"position {position} is there, which is not the latest version of an event, or removes it"
