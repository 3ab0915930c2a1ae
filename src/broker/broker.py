"""The class Broker: the use cases of ``web`` and of the library's callers, and the start and stop of a node's parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from broker.accounts.accounts import Accounts
from broker.accounts.administration import Administration
from broker.accounts.rates import Rates
from broker.addresses import client_key
from broker.errors import BadRequest, Forbidden, SettingsError, Unavailable
from broker.live.access import Access
from broker.live.catchup import Catchup
from broker.live.frames import Frame
from broker.live.heartbeats import Heartbeats
from broker.live.history import History
from broker.live.hub import Hub
from broker.live.listing import Selection, select
from broker.live.reader import ANONYMOUS, Reader
from broker.live.reads import Reads
from broker.live.relay import Relay
from broker.live.scheduler import Scheduler
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.live.types import Types
from broker.names import RULES_EVENT, Filter, check_name
from broker.records import Cancel, EventId, NewRecord, Record
from broker.rules.rights import Rights, read_rules, refuse
from broker.rules.rules import OPERATIONS, Operation, Right
from broker.settings import Settings
from broker.store.base import Commit, Head, Result, Version
from broker.store.choice import make_store, naming_the_store, wall_clock_us
from broker.users import Actor

logger = logging.getLogger("broker")


def _unknown(parameter: str) -> BadRequest:
    return BadRequest(
        f"{parameter}: this log has never issued this id; if a backup was restored, read the state again without the id"
    )


def _user(actor: Actor, address: str) -> str:
    """Under what the inserts of an actor are counted. ``address`` is the client's."""
    return actor.username or f":{client_key(address)}"  # no user name has a colon


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of a node, as of one moment."""

    subscribers: int  # open streams
    live: int  # of these, the streams to which everything up to the hub's position was written
    position: int  # the position of the newest record that was handed to the streams
    deliveries: int  # frames that were written to live subscribers since the start
    writes_waiting: int  # records and other writes that are accepted, and not committed yet


class Broker:
    """One node. ``start`` starts its parts in the order in which a record passes through them (docs/architecture.md),
    and ``stop`` stops them in the reverse order.

    Mutable state: whether it runs, and its tasks."""

    def __init__(self, settings: Settings, clock: Callable[[], int] | None = None) -> None:
        """``clock`` returns microseconds since 1970; it replaces this machine's clock and the database's."""
        self.settings = settings
        self.clock = clock or wall_clock_us
        self.rights = Rights()
        self.access = Access(self.rights)
        self.store = make_store(settings, clock, self.rights)
        self.hub = Hub(settings, self.access)
        self.relay = Relay(self.store, self.hub, self.access, settings)
        self.reads = Reads(self.store, self.relay, self.access)
        self.history = History(self.store, self.relay, self.access, self.reads, settings)
        self.types = Types(self.store, self.relay, self.access, self.reads, settings)
        self.scheduler = Scheduler(self.store, settings)
        self.catchup = Catchup(self.store, self.relay, self.hub, self.access, settings)
        self.accounts = Accounts(self.store, settings, self.clock, self.rights)
        self.administration = Administration(self.store, self.accounts, self.rights, self.clock)
        self._rates = Rates(self.store, settings, self.access.allows)
        self.running = False
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, also_unconfirmed: bool = False) -> None:
        """Returns when requests can be served. Raises SettingsError if settings, store or rights do not allow it."""
        if self._started:
            raise RuntimeError("a Broker is started once; make another one (or another create_app) to start again")
        self._started = True
        with naming_the_store(self.settings):
            await self.store.start(self._committed)
        try:
            await self.accounts.start()
            await self.relay.start()
            self.rights.check_start(also_unconfirmed=also_unconfirmed)
        except BaseException as error:
            await self.store.stop()
            if isinstance(error, Unavailable):
                raise SettingsError("the log cannot be read: the line before this one says why") from error
            raise
        self.hub.start(
            self.relay.position, self.relay.id_of, self.catchup.resume, committing=lambda: self.store.waiting > 0,
            clock=self.store.clock,
        )  # fmt: skip
        self._tasks = [
            asyncio.create_task(self.relay.run(), name="relay"),
            asyncio.create_task(self.scheduler.run(), name="scheduler"),
            asyncio.create_task(Heartbeats(self.hub, self.settings).run(), name="heartbeats"),
            asyncio.create_task(self.history.run(), name="checkpoints"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._watch)
        self.running = True

    async def close_streams(self) -> None:
        """Ends every stream, and refuses new ones from now on."""
        await self.hub.close(self.settings.shutdown_grace_s / 2)

    async def stop(self) -> None:
        """Stops the parts in the reverse order of their start. What was accepted is finished first."""
        if not self.running:
            return
        self.running = False
        self.types.stop()
        await self.close_streams()
        await self.catchup.stop()
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.stop()
        await self.accounts.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Starts Broker, and stops it at the end. A host application uses this in its own lifespan."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Logs the error of a task that has ended. No task ends while Broker runs, unless it has failed. From then on
        ``ready`` raises Unavailable."""
        if not task.cancelled() and (error := task.exception()):
            logger.critical("the %s failed; restart Broker", task.get_name(), exc_info=error)

    def _committed(self, commit: Commit) -> None:
        """Passes the hint of a commit to the parts of the node. The relay is the first, because ``Hub.committed`` is
        called when the frames of the commit are published."""
        self.relay.hint(commit)
        self.hub.committed()
        self.scheduler.hint(commit)
        if commit.pending_changed:
            self.hub.pending_changed()

    # The log

    async def insert(self, records: Sequence[NewRecord | Cancel], actor: Actor, address: str = "") -> list[Result]:
        """Inserts all records or none, in the name of the actor. ``address`` is the client's. Returns a pair for each
        record: the record and True, or, for a repeated insert, the first record and False.

        Raises BadRequest, Forbidden, Unauthorized, Conflict or InsufficientStorage with the index of the first record
        at fault, and Unavailable and TooManyRequests."""
        self._check_names(records, actor)
        user = _user(actor, address)
        if self.counts_rates:
            await self._rates.count(self.rights.rules, records, actor, user)
        return await self.store.append(records, actor, user)

    def insert_at_once(
        self, records: Sequence[NewRecord | Cancel], actor: Actor, address: str = ""
    ) -> asyncio.Future[list[Result]]:
        """Does the same for a caller that is no coroutine, as long as no rates are counted (``counts_rates``)."""
        self._check_names(records, actor)
        return self.store.append(records, actor, _user(actor, address))

    @property
    def counts_rates(self) -> bool:
        """Whether there is a limit on how often somebody may insert, so that an insert may have to wait for the store
        before it is appended."""
        rules = self.rights.rules
        return self.settings.inserts_per_user != "" or (rules is not None and rules.limits_rates)

    def _check_names(self, records: Sequence[NewRecord | Cancel], actor: Actor) -> None:
        """Raises BadRequest with the index of the first record at fault, and Forbidden."""
        checked: str | None = None
        for index, new in enumerate(records):
            if type(new) is NewRecord and new.event != checked:  # often all records of a batch have the same name
                try:
                    if new.event == RULES_EVENT and len(records) == 1:
                        self._check_rules(new, actor)
                    else:
                        checked = check_name(new.event)
                except BadRequest as error:
                    error.index = index
                    raise

    def _check_rules(self, new: NewRecord, actor: Actor) -> None:
        """Raises BadRequest for rules that cannot be used, and Forbidden, unless the operator, or an administrator, if
        the settings permit it, inserts them."""
        if not actor.operator and not (
            self.settings.rules_over_http and self.access.allows("insert", new.event, actor)
        ):
            raise Forbidden(
                "rules are written with `broker rules apply` by whoever may read the server's data; with the setting "
                "rules_over_http=yes administrators may write them, too"
            )
        if new.log_only or new.until is not None:
            raise BadRequest("$rules: until and published make no sense for rules; leave them out")
        file = read_rules(new.data)
        if failed := file.failed():
            raise BadRequest(f"$rules: line {failed[0].line}: it is not as expected that {failed[0]}")

    async def cancel(self, uuid: UUID, actor: Actor) -> Record:
        """Cancels a pending record in the name of the actor, or returns it if it is cancelled already. Raises NotFound,
        also if the actor may not cancel it; Conflict, Unauthorized, Unavailable."""
        return await self.store.cancel(uuid, actor)

    # The state

    def state_id(self) -> EventId:
        """Returns the id as of which ``state`` lists the state now."""
        return EventId(self.relay.epoch, self.relay.position)

    async def state(self, selection: Selection, actor: Actor) -> tuple[list[Frame], bool]:
        """Returns the latest records of the selected events that the actor may read, as of ``state_id`` at the moment
        of the call, and whether there are more than the selection's limit. It does not read the store. Raises
        Unauthorized if the actor's token is not valid any more, and Unavailable."""
        self.reads.check(actor)
        view = self.access.view_of(actor)
        frames, more = await select(self.relay.snapshot, selection, self.access.reading(actor))
        self.reads.check_again(actor, view, (frame.event for frame in frames))
        return frames, more

    async def id_at(self, time_us: int, client: str = "") -> EventId | None:
        """Returns the id of the record that had been published last at a time, in microseconds since 1970. Returns None
        if the time is in the future. ``client`` is who asks. Raises Unavailable."""
        if time_us > self.store.clock():
            return None
        head = await self.history.head_at(time_us, client)
        return EventId(head.epoch, head.position)

    async def state_at(
        self, time_us: int, event_id: EventId | None, selection: Selection, actor: Actor, *, client: str = ""
    ) -> tuple[list[Version], bool]:
        """Returns the selected versions of the state at a time, of the events that the actor may read now, and whether
        there are more than the selection's limit. ``event_id`` is what ``id_at`` has returned for this time. In a state
        of the future, what is pending counts if the actor has inserted it, or may read the event's log. Raises
        Unauthorized if the actor's token is not valid any more, and Unavailable."""
        head = None if event_id is None else Head(event_id.epoch, event_id.position)
        return await self.history.state_at(head, time_us, selection, actor, client=client)

    async def reached(self, last_id: EventId) -> None:
        """Returns when the state includes the record with this id, which the caller may have received in the response
        to an insert, or from another node. Raises BadRequest if the log has issued no such id, and Unavailable."""
        # Another node, or a restore, may have begun a new epoch, which this node's relay has not noticed yet.
        if last_id.epoch not in self.relay.epochs and (await self.store.head()).epoch != self.relay.epoch:
            raise Unavailable("this node has not read the new epoch of the log yet; ask again in a moment")
        position = self.position_of(last_id, "last_event_id")
        if position > self.relay.position:
            if position > (await self.store.head()).position:
                raise _unknown("last_event_id")
            await self.relay.caught_up(position)

    def position_of(self, event_id: EventId, parameter: str) -> int:
        """Returns the position that an id stands for, which may be ahead of this node. Raises BadRequest if the id
        belongs to another log, or to a part of this log that was lost. ``parameter`` is what the message calls it."""
        ended = self.relay.epochs.get(event_id.epoch, -1)
        if ended is not None and event_id.position > ended:
            raise _unknown(parameter)
        return event_id.position

    # Rights

    def demand(self, operation: Operation, event: str, actor: Actor) -> None:
        """Raises Forbidden if the actor does not have this right, or Unauthorized if a login could give it; and
        Unavailable."""
        if not self.access.allows(operation, event, actor):
            refuse(actor, operation)

    def may(self, event: str, actor: Actor) -> dict[Operation, Right]:
        """Returns what the actor may do with an event. To cancel is "own" if the actor may only cancel what the actor
        has inserted. Raises BadRequest for what is no name, and Unavailable."""
        check_name(event)
        may: dict[Operation, Right] = {each: self.access.allows(each, event, actor) for each in OPERATIONS}
        match = None if self.rights.rules is None else self.rights.rules.find(event)
        if match is not None and "cancel" not in match.rule.rights and not may["cancel"] and actor.username:
            may["cancel"] = "own"
        return may

    # The stream

    def full(self, address: str) -> bool:
        """Returns whether another stream of a client with this address would exceed a limit now."""
        return self.hub.full(address)

    def subscribe(
        self,
        subscription: Subscription,
        address: str,
        last_id: str | None,
        connect: Callable[[Subscriber], StreamTransport | None],
        new: Filter | None = None,
        reader: Reader = ANONYMOUS,
        head: bytes = b"",
    ) -> None:
        """Opens a stream. It resumes after ``last_id``, or begins with the snapshot if ``last_id`` is None. ``connect``
        gives the new subscriber its connection, or returns None if the client has closed the connection in the
        meantime. ``head`` is what has to be written before the stream. If the reader's token has become invalid in the
        meantime, the stream says so and ends."""
        subscriber = Subscriber(self.hub, subscription, client_key(address), reader)
        connection = connect(subscriber)
        if connection is not None:
            subscriber.connected(connection)
            self.hub.add(subscriber)
            if not reader.actor.is_valid_or_newer(self.rights.state(reader.actor.user_id)):
                self.hub.log_out(subscriber, "ended")
            self.catchup.connect(subscriber, last_id, new, head)

    def statistics(self) -> Statistics:
        """Returns figures of this node, as of now."""
        return Statistics(
            subscribers=len(self.hub.subscribers), live=self.hub.live, position=self.relay.position,
            deliveries=self.hub.deliveries, writes_waiting=self.store.waiting,
        )  # fmt: skip

    async def ready(self) -> None:
        """Raises Unavailable if a task has failed, the store is unreachable, or the log has moved to another store."""
        if not self.running or any(task.done() for task in self._tasks):
            raise Unavailable("Broker is not running")
        await self.store.check()
