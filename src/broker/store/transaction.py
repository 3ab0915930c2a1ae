"""One write transaction, for both databases. This is the only place where records get their numbers and positions.

The transaction runs on the writer's thread, between BEGIN and COMMIT, while that thread holds the store's write lock.
All data that determines the order of the log is read after the lock is acquired, and written before it is released. No
data is kept from one transaction to the next, because another node may write in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from uuid import UUID

import msgspec

from broker.errors import BadRequest, BrokerError, NotFound, PreconditionFailed, name_taken
from broker.names import USER_EVENT
from broker.records import REMOVAL, Cancel, EventId, NewRecord, Record, Uuids
from broker.rules.rights import Rights, Version, is_rights_event, person
from broker.settings import MIB, Settings
from broker.store.base import Checkpoint, Commit, Item, Result
from broker.store.batch import Batch, look_ups
from broker.store.conditions import check_cancellable, check_latest, check_repeated, check_times, revival
from broker.store.event_rows import EventRows
from broker.store.hint import Hint
from broker.store.judge import Judge, KnownRules
from broker.store.tables import Counters, Ending, Tables
from broker.store.unwritten import Unwritten
from broker.users import DEFAULT_STATE, Actor, User, erased_key, username_key

# Due records are read from the database in pages, and these are the limits of one page.
_PAGE_RECORDS_MAX = 1_000
_PAGE_BYTES_MAX = 8 * MIB
_WITHDRAWN = "the operator has withdrawn it before the rights of the restored log were confirmed"


class Transaction:
    """Reads the counters under the lock, assigns numbers and positions, and writes all rows in few statements.

    The order of calls is ``publish_due``, then ``append``, then ``add_user``, then ``finish``, and then COMMIT:

    * ``publish_due`` is called first, so that records inserted now get positions after the records that were due
      earlier, and are judged by the state that those have left.
    * ``append`` is called at most once. It reads known uuids and the rows of events from the database. The danger: rows
      that an earlier ``append`` has added may still be missing from the database, so a second call could read old data.
    * If ``finish`` is not called, or fails, the caller must roll back. Before ``finish`` the database may contain rows
      that its counters do not include.

    Mutable state: the counters, and the rows that were read or are not written yet. All of it belongs to the writer's
    thread, and is in the database after ``finish``. ``head`` is correct at any time, ``next_due_us`` after that."""

    def __init__(
        self, tables: Tables, now_us: int, settings: Settings, epoch: str, rights: Rights, known: KnownRules
    ) -> None:
        self._tables = tables
        self._now_us = now_us
        self._settings = settings
        self._epoch = epoch  # read under the lock, because another node may have begun a new epoch
        self._before, self.next_due_us = tables.begin()
        self._last_number, self.head, self._total_bytes = self._before[:3]
        self._removals_floor = self._before.removals_floor
        self._rights = self._before.rights
        self._hint = Hint(tables)
        self._rows = EventRows(tables, settings, self._before)
        self._judge = Judge(
            tables, self._rows, Version(epoch, self._rights), rights, known, rules_over_http=settings.rules_over_http
        )
        self._next_due_passed = False  # whether something that was to come at ``next_due_us`` may not come any more
        self._uuids = Uuids()  # makes those of endings, and of changes to users
        self._own_events = False  # whether the items of this transaction are about Broker's own events
        self._uuids_given = False  # whether the items of this transaction have uuids that their clients chose
        self._unwritten = Unwritten(tables)

    def publish_due(self) -> None:
        """Publishes the pending records that are due, and the endings of versions whose ``until`` has come.

        They take effect in the order of their times, and each is judged by the state that those before it have left. So
        after a downtime over several versions, each version is published, and then its end, before the next one. At the
        same microsecond publications come before endings: then the version that would end was superseded just in
        time."""
        if self.next_due_us is None or self.next_due_us > self._now_us:
            return
        judge = self._judge
        if judge.holds_due:
            self.next_due_us = self._now_us + 1_000_000  # the scheduler asks again in a second
            return
        # All endings are read at once. Their number is limited by ``event_names_max``, because only the latest version
        # of an event can end.
        endings = list(self._tables.endings(self._now_us))
        heapify(endings)
        while rows := list(self._tables.due(self._now_us, _PAGE_RECORDS_MAX, _PAGE_BYTES_MAX)):
            names = {record.event for record in rows}
            if judge.active:
                judge.load_users({record.user for record in rows})
                names |= judge.due_conditions(rows)
            self._rows.load(names)
            for record in rows:
                self._publish_endings(endings, before_us=record.due_us)
                self._rows.load({record.event})  # the rows are forgotten if the endings were flushed
                # The rights were judged when the record was inserted, and may have ended since.
                # Rules are judged in any log, because rules that cannot be used would stop whatever comes after them.
                if (judge.active or record.event[0] == "$") and (reason := judge.refusal(record)):
                    self._unwritten.cancellations += (record.number, "", self._now_us, reason)
                    self._rows.remove_pending(record)
                    continue
                position = self._publish(record, record.number, was_pending=True)
                self._hint.records.append(msgspec.structs.replace(record, position=position, published_us=self._now_us))
                if record.until_us is not None and record.until_us <= self._now_us:
                    version = (record.number, position, record.event, record.uuid, record.user, record.until)
                    heappush(endings, Ending(record.until_us, *version))
            # This must be written before the next page is read. Otherwise ``due`` would return the same records again,
            # and they would be published twice.
            self._unwritten.unpending += [(record.due_us, record.number) for record in rows]
            self._flush()
            self._trim_hint()
        self._publish_endings(endings, before_us=None)
        self._flush()
        self.next_due_us = self._tables.next_due()

    def _publish_endings(self, endings: list[Ending], before_us: int | None) -> None:
        """Publishes the endings with a time before ``before_us``, or all of them, if that is None. An ending of a
        version that is not the latest any more has no effect.

        ``endings`` is a heap, from which they are taken."""
        while endings and (before_us is None or endings[0].until_us < before_us):
            page: list[Ending] = []
            while endings and len(page) < _PAGE_RECORDS_MAX and (before_us is None or endings[0].until_us < before_us):
                page.append(heappop(endings))
            self._rows.load({ending.event for ending in page})
            for ending in page:
                row = self._rows.get(ending.event)
                if row is not None and row.position == ending.position:
                    self._publish_ending(ending)
            if len(self._unwritten.publications) > 4 * _PAGE_RECORDS_MAX:
                self._flush()
                self._trim_hint()

    def _publish_ending(self, ending: Ending) -> None:
        self._last_number = number = self._last_number + 1
        uuid = self._uuids.make(self._now_us // 1_000)
        self._unwritten.records += (
            number, uuid, ending.event, ending.user, ending.until, ending.until_us, False, self._now_us,
            REMOVAL.decode(),
        )  # fmt: skip
        self._unwritten.endings += (number, None, None, ending.uuid)
        record = Record(
            uuid, ending.event, REMOVAL, ending.user, ending.until, ending.until_us, False, self._now_us,
            False, self.head + 1, self._now_us, number, self._epoch, None, None, ending.uuid,
        )  # fmt: skip
        self._publish(record, number)
        self._hint.records.append(record)

    def append(self, batches: Sequence[Batch]) -> list[list[Result] | BrokerError]:
        """Returns one result for each batch: either a list with a pair (record, whether it is new) for each of its
        items, or the error because of which the whole batch was refused. An error in one batch does not affect the
        other batches, which belong to other requests."""
        names, uuids = look_ups(batches)
        by_uuid = {record.uuid: record for record in self._tables.records(list(uuids))} if uuids else {}
        self._uuids_given = bool(uuids)
        self._own_events = any(name[:1] == "$" for name in names)
        if self._judge.active:
            for items, actor in batches:
                names |= self._judge.conditions((item for item in items if type(item) is NewRecord), actor)
        self._rows.load(names.union(record.event for record in by_uuid.values()))
        self._rows.expect(actor.username for _, actor in batches if not actor.operator)
        return [self._append_batch(items, actor, by_uuid) for items, actor in batches]

    def _append_batch(
        self, batch: Sequence[Item], actor: Actor, by_uuid: dict[UUID, Record]
    ) -> list[Result] | BrokerError:
        """Carries out all items of the batch, or none: if one is refused, the changes of those before it are undone.

        ``by_uuid`` contains the stored records whose uuids occur in these batches. Each appended record whose uuid the
        publisher chose is added to it, so that a repeated insert is also recognised within one transaction."""
        # A batch of one item needs no undo, because an item that is refused has changed nothing.
        undo = self._undo(batch, by_uuid) if len(batch) > 1 else None
        results: list[Result] = []
        repeated_cancel: int | None = None  # the index of an item that cancels a record which is cancelled already
        try:
            # Whoever may read the store's files may do everything.
            judged = not actor.operator
            check_inserts = judged and (self._judge.active or self._own_events or not actor.username)
            if check_inserts:
                who = self._judge.person(actor) if self._judge.active else person(actor, DEFAULT_STATE)
            for item in batch:
                if type(item) is Cancel:
                    found = by_uuid.get(item.uuid)
                    if found and judged and (self._judge.active or not actor.username or found.event[0] == "$"):
                        self._judge.check_cancel(found, actor)
                    if found and found.cancelled:
                        repeated_cancel = len(results)
                    else:
                        found = self._cancel(item, by_uuid)
                    results.append((found, False))
                    continue
                if item.uuid_given and (first := by_uuid.get(item.uuid)):
                    if judged and not actor.username:  # the first insert may be another stranger's, or the operator's
                        self._judge.check_right(item, actor, who)
                    results.append((check_repeated(first, item), False))
                    continue
                if check_inserts:
                    self._judge.check_insert(item, actor, who, self._rows.get(item.event))
                record = self._append(item, by_uuid, limited=judged)
                if item.uuid_given:
                    by_uuid[item.uuid] = record
                results.append((record, True))
            if repeated_cancel is not None and any(created for _, created in results):
                raise revival(repeated_cancel)
        except BrokerError as refusal:
            if refusal.index is None:
                refusal.index = len(results)
            if undo is not None:
                undo()
            if isinstance(refusal, PreconditionFailed):
                refusal.latest = self._latest_of(batch[len(results)])
            return refusal
        return results

    def _undo(self, batch: Sequence[Item], by_uuid: dict[UUID, Record]) -> Callable[[], None]:
        """Returns a function that restores all state that the items of this batch may change.

        The danger: if some of this state were not restored, the numbers, positions or reserved bytes of a refused batch
        would be committed with the other batches. For example, without the old ``head`` the positions would have a gap.
        So if ``_append`` or ``_cancel`` is extended to change more state, that state must be restored here, too."""
        counters = self._last_number, self.head, self._total_bytes, self.next_due_us, self._next_due_passed
        undo_rows_made, hint = self._unwritten.undo(), len(self._hint.records)
        # Without known uuids, no item is a repetition, a cancellation or built on another one.
        uuids = {item.uuid for item in batch if type(item) is Cancel or item.uuid_given} if self._uuids_given else set()
        known = {uuid: by_uuid[uuid] for uuid in uuids & by_uuid.keys()}
        names = {item.event for item in batch if type(item) is NewRecord}
        names.update(record.event for record in known.values())
        undo_rows = self._rows.undo(names)
        undo_judge, rights = self._judge.undo(), self._rights

        def undo() -> None:
            undo_judge()
            self._rights = rights
            self._last_number, self.head, self._total_bytes, self.next_due_us, self._next_due_passed = counters
            undo_rows()
            undo_rows_made()
            del self._hint.records[hint:]
            for uuid in uuids:
                by_uuid.pop(uuid, None)
            by_uuid.update(known)

        return undo

    def _cancel(self, item: Cancel, by_uuid: dict[UUID, Record]) -> Record:
        """Cancels a pending record. If this raises NotFound or Conflict, nothing was changed."""
        record = check_cancellable(by_uuid.get(item.uuid), item.uuid)
        self._unwritten.unpending.append((record.due_us, record.number))
        # A record that is due is still pending only if the rights hold it back, and then only the operator may cancel.
        reason = _WITHDRAWN if record.due_us <= self._now_us else None
        self._unwritten.cancellations += (record.number, item.user, self._now_us, reason)
        self._next_due_passed = True
        self._rows.remove_pending(record)
        cancelled = by_uuid[item.uuid] = msgspec.structs.replace(record, cancelled=True, reason=reason)
        return cancelled

    def add_user(self, user: User, actor: Actor) -> None:
        """Adds a user. Raises Conflict if there is or was a user with this name; upper and lower case are not
        distinguished. Raises Forbidden, unless the actor is an administrator or the operator; and Unauthorized."""
        self._judge.check_change(user.id, actor)
        if self._tables.has_user(username_key(user.username), erased_key(user.username)):
            raise name_taken(user.username)
        self._tables.add_user(user, self._now_us)
        if user.state != DEFAULT_STATE:
            self._publish_state(user, actor)

    def change_user(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        """Changes a user as ``change`` says, and publishes ``$user/<id>`` if the change concerns all nodes. Returns the
        user. If this raises an error, nothing was changed.

        Raises NotFound; Forbidden, unless the actor is this user, an administrator or the operator; Unauthorized if the
        actor's token is not valid any more; and what ``change`` raises."""
        self._judge.check_change(user_id, actor)
        user = next(iter(self._tables.users([user_id])), None)
        if user is None:
            raise NotFound(f"no user has the id {user_id}")
        if (changed := change(user)) != user:
            self._tables.put_user(changed)
        if changed.state != user.state:
            self._publish_state(changed, actor)
        return changed

    def _publish_state(self, user: User, actor: Actor) -> None:
        event, data = f"{USER_EVENT}{user.id}", msgspec.json.encode(user.state)
        self._rows.load([event])
        self._append(NewRecord(self._uuids.make(self._now_us // 1_000), event, data, actor.username), {})

    def add_checkpoint(self, epoch: str, checkpoint: Checkpoint) -> None:
        """Adds a checkpoint that was made in this epoch.

        The danger: if a new epoch has begun in the meantime, the log may have lost its end, and have other records at
        the same positions. So this checkpoint is dropped, and is made again later."""
        if epoch == self._epoch:
            self._tables.add_checkpoint(checkpoint)

    @property
    def pending_changed(self) -> bool:
        """Whether records have become pending, or are not pending any more. Correct after ``finish``."""
        return self._unwritten.pending_changed

    def finish(self) -> Commit:
        """Writes all changes that are not written yet. COMMIT comes next.

        The danger: if COMMIT fails, the records in the returned hint do not exist. So the caller must not pass the hint
        on before COMMIT has succeeded."""
        self._flush()
        kept = self._settings.removals_kept
        # A tenth more than the limit may be kept, so that rows are not deleted in each transaction.
        if self._rows.removals > kept + kept // 10:
            # A removal below the floor may have been kept because something of its event was pending.
            floor = self._tables.drop_removals(self._rows.removals - kept)
            self._removals_floor = max(self._removals_floor, floor)
            self._rows.removals = kept
        if (counters := self._counters()) != self._before:
            self._tables.put_counters(counters)
        if self._next_due_passed or self._rows.until_dropped:
            self.next_due_us = self._tables.next_due()
        self._trim_hint()
        # The danger: the relay would treat an incomplete hint as all records of the commit.
        hint = self._hint.records if len(self._hint.records) == self.head - self._before.head else []
        return Commit(hint, self.head, self.next_due_us, self._epoch, self.pending_changed)

    def _trim_hint(self) -> None:
        self._hint.trim(self._total_bytes - self._before.total_bytes)

    def _flush(self) -> None:
        """Writes the rows that are not written yet, so that queries see them, and forgets the rows of events."""
        self._unwritten.flush()
        self._rows.flush()

    def _append(self, new: NewRecord, by_uuid: dict[UUID, Record], *, limited: bool = True) -> Record:
        """Appends one record, and publishes it if it is due. ``limited``: whether the limits of one user apply. If this
        raises an error, nothing was changed."""
        now_us, event, data = self._now_us, new.event, new.data
        due_us = now_us if new.due_us is None else new.due_us
        immediate = due_us <= now_us
        if new.until_us is not None or new.late_refused:
            check_times(new, due_us, now_us)
        if new.if_latest is not None:
            if not immediate:
                raise BadRequest("if_latest: the condition is judged now, so the timestamp cannot be in the future")
            check_latest(new, self._rows.get(event), by_uuid, self._is_of_this_log)
        if not new.log_only:
            self._rows.reserve(new, immediate=immediate, limited=limited)
        self._last_number = number = self._last_number + 1
        self._unwritten.records += (
            number, new.uuid, event, new.user, new.timestamp, due_us, new.log_only, now_us, data.decode()
        )  # fmt: skip
        if new.until_us is not None:
            self._unwritten.endings += (number, new.until, new.until_us, None)
        position = published_us = None
        if not new.log_only and immediate:
            position, published_us = self._publish(new, number), now_us
        elif not new.log_only:
            self._unwritten.pending += (due_us, number, event, 0 if data == REMOVAL else len(data))
            self._rows.add_pending(new)
            if self.next_due_us is None or due_us < self.next_due_us:
                self.next_due_us = due_us
        record = Record(
            new.uuid, event, data, new.user, new.timestamp, due_us, new.log_only, now_us,
            False, position, published_us, number, self._epoch, new.until, new.until_us,
        )  # fmt: skip
        if position is not None:
            self._hint.records.append(record)
        return record

    def _is_of_this_log(self, event_id: EventId) -> bool:
        if event_id.epoch == self._epoch:
            return True
        ended = self._tables.epochs().get(event_id.epoch)
        return ended is not None and event_id.position <= ended

    def _latest_of(self, item: Item) -> Record | None:
        """Returns the latest record of the item's event as it is now, in the middle of this transaction."""
        row = None if type(item) is Cancel else self._rows.get(item.event)
        return None if row is None or row.position is None else self._hint.record_at(row.position)

    def _publish(self, version: NewRecord | Record, number: int, *, was_pending: bool = False) -> int:
        """Assigns the next position to the record with this number, and makes it the latest of its event. Returns the
        position. ``was_pending``: the record was pending until now."""
        event, data, until_us = version.event, version.data, version.until_us
        self.head = position = self.head + 1
        self._total_bytes += len(data)
        self._unwritten.publications += (position, number, self._now_us, self._total_bytes)
        self._rows.publish(event, position, data, until_us, version.user, was_pending=was_pending)
        if event[0] == "$" and is_rights_event(event):
            self._rights = position
            self._judge.learn(event, data)
        if until_us is not None and (self.next_due_us is None or until_us < self.next_due_us):
            self.next_due_us = until_us
        return position

    def _counters(self) -> Counters:
        rows = self._rows
        return Counters(
            self._last_number, self.head, self._total_bytes, rows.names, rows.reserved, rows.removals,
            self._removals_floor, self._rights,
        )  # fmt: skip
