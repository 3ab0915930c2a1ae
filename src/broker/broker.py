"""The use cases: all that HTTP and the library call. Owns the parts, their start and their stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from broker.accounts.passwords import Passwords
from broker.accounts.throttle import Throttle
from broker.accounts.tokens import Tokens
from broker.addresses import visitor
from broker.errors import BadRequest, Forbidden, SettingsError, TooManyRequests, Unauthorized, Unavailable
from broker.live.catchup import Catchup
from broker.live.hub import Hub
from broker.live.relay import Relay
from broker.live.scheduler import Scheduler
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.names import check_name
from broker.records import NewRecord, Record, make_uuid
from broker.settings import MIB, Settings
from broker.store.base import Commit, LogPage, Store
from broker.store.outage import NO_DRIVER
from broker.store.sqlite.store import SQLiteStore
from broker.users import (
    User,
    check_password,
    check_password_size,
    check_username,
    is_username,
    normal_password,
)

logger = logging.getLogger("broker")

_LOG_PAGE_BYTES = 1 * MIB
_KNOWN_USERS_MAX = 10_000


def wall_clock_us() -> int:
    return time.time_ns() // 1_000


def _make_store(settings: Settings, clock: Callable[[], int] | None) -> Store:
    if not settings.database:
        return SQLiteStore(settings.data / "broker.db", settings, clock or wall_clock_us)
    with _naming_the_store(settings):
        try:
            from broker.store.postgres.store import PostgresStore
        except ImportError:
            raise SettingsError(NO_DRIVER) from None
        return PostgresStore(settings.database, settings, clock)


@contextlib.contextmanager
def _naming_the_store(settings: Settings) -> Iterator[None]:
    """Has a refusal of the store say by which setting it was chosen, and where that came from."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{settings.named('database' if settings.database else 'data')}: {error}") from error


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a node is doing."""

    subscribers: int  # open streams
    live: int  # of these, those that have everything up to the hub's position
    position: int  # of the newest record that was handed to the streams
    deliveries: int  # frames that were written to live subscribers since the start
    writes_waiting: int  # records and other writes that are accepted and not committed yet


class Broker:
    """One node. ``start`` and ``stop`` are in the order of the road (docs/architecture.md).

    Mutable state: whether it runs, its tasks, the users as known of late, and counts."""

    def __init__(self, settings: Settings, clock: Callable[[], int] | None = None, worker: str = "") -> None:
        """``clock``: microseconds since the epoch, in place of this machine's; and of the database's own."""
        self.settings = settings
        self.worker = worker  # its name among several behind one port
        self.clock = clock or wall_clock_us
        self.store = _make_store(settings, clock)
        self.hub = Hub(settings)
        self.relay = Relay(self.store, self.hub, settings)
        self.scheduler = Scheduler(self.store, settings)
        self.catchup = Catchup(self.store, self.relay, self.hub, settings)
        self.running = False
        self._started = False
        self._throttle = Throttle(settings)
        self._passwords: Passwords
        self._tokens: Tokens
        self._tasks: list[asyncio.Task[None]] = []
        self._users: OrderedDict[str, tuple[User | None, float]] = OrderedDict()  # by id; and when looked up
        self.refusals: Counter[int] = Counter()  # answers with each status of an error
        self._inserting: Counter[str] = Counter()  # records of each user that wait for a commit

    async def start(self) -> None:
        """Raises SettingsError if it cannot."""
        if self._started:
            raise RuntimeError("a Broker is started once; make another one (or another create_app) to start again")
        self._started = True
        with _naming_the_store(self.settings):
            await self.store.start(self._committed)
        try:
            secret = self.settings.token_secret or await self.store.token_secret()
            self._tokens = Tokens(secret, self.settings.token_ttl_s)
            self._passwords = Passwords(self.settings.password_hashes_max)
            await self.relay.start()
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
            asyncio.create_task(self.hub.run_heartbeats(), name="heartbeats"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._watch)
        self.running = True

    async def close_streams(self) -> None:
        """Ends every stream, and refuses new ones."""
        await self.hub.close(self.settings.shutdown_grace_s / 2)

    async def stop(self) -> None:
        """In reverse order; what was accepted is finished."""
        if not self.running:
            return
        self.running = False
        await self.close_streams()
        await self.catchup.stop()
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.stop()
        self._passwords.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """For a host application's own lifespan."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def _watch(self, task: asyncio.Task[None]) -> None:
        """None of the tasks ends while Broker runs: if one does, /readyz says so from then on."""
        if not task.cancelled() and (error := task.exception()):
            logger.critical("the %s failed; restart Broker", task.get_name(), exc_info=error)

    def _committed(self, commit: Commit) -> None:
        self.relay.hint(commit)
        self.hub.committed()
        self.scheduler.hint(commit)

    # Users

    async def sign_up(self, username: str, password: str, info: bytes, address: str = "") -> User:
        """Raises BadRequest, Forbidden (sign-up is closed), Conflict (name taken), TooManyRequests."""
        if not self.settings.signup:
            raise Forbidden("sign-up is closed on this server; ask its operator for an account")
        check_username(username)
        password = check_password(password)
        self._throttle.sign_up(address)
        if await self.store.user_by_name(username) is None:  # else refused below, without the work of a hash
            password_hash = await self._passwords.hash(password)
        else:
            password_hash = ""
        user = User(str(make_uuid(self.clock() // 1_000)), username, info, password_hash)
        await self.store.add_user(user)
        return user

    async def log_in(self, username: str, password: str, address: str = "") -> str:
        """A token. Raises Unauthorized, the same for an unknown user, a wrong password and a disabled user; and
        TooManyRequests."""
        # As sent, too: users of older versions have a hash of that. Both are checked whoever the user is, so that the
        # time tells nothing of him.
        check_password_size(password)
        spellings = dict.fromkeys((normal_password(password), password))
        self._throttle.log_in(username, address)
        # What cannot be a name is not looked up: PostgreSQL refuses some of it.
        user = await self.store.user_by_name(username) if is_username(username) else None
        right = False
        for each in spellings:
            right = right or await self._passwords.check(each, user.password_hash if user else None)
        if not right or user is None or user.disabled:
            raise Unauthorized("the user name or the password is wrong")
        self._throttle.logged_in(username, address)
        return self._tokens.make(user, self.clock() // 1_000_000)

    async def authenticate(self, token: str) -> User:
        """The token's user, as known at most ``user_age_max_s`` ago. Raises Unauthorized."""
        claims = self._tokens.verify(token, self.clock() / 1e6)
        now_s = time.monotonic()
        user, known_s = self._users.get(claims.user_id, (None, -1e9))
        if now_s - known_s > self.settings.user_age_max_s:
            user = await self.store.user_by_id(claims.user_id)
            self._users[claims.user_id] = (user, now_s)
            self._users.move_to_end(claims.user_id)
            if len(self._users) > _KNOWN_USERS_MAX:
                self._users.popitem(last=False)
        if user is None or user.disabled or user.gen != claims.gen:
            raise Unauthorized("the token is not valid any more; log in again")
        return user

    # The log

    async def insert(self, news: Sequence[NewRecord]) -> list[tuple[Record, bool]]:
        """All or none, and all of one user. For each the record and True, or for a repetition the first one and False.

        Raises, with the index of the first bad one: BadRequest, Conflict, InsufficientStorage; also Unavailable,
        TooManyRequests."""
        checked: str | None = None
        for index, new in enumerate(news):
            if new.event != checked:  # often all of a batch have one name
                try:
                    checked = check_name(new.event)
                except BadRequest as error:
                    error.index = index
                    raise
        user = news[0].user
        waiting = self._inserting[user] + len(news)
        if waiting > self.settings.inserts_waiting_per_user_max:
            raise TooManyRequests(
                f"{self._inserting[user]} inserts of this user are waiting for the disk; send this again in a moment",
                retry_after_s=1,
            )
        self._inserting[user] = waiting
        try:
            return await self.store.append(news)
        finally:
            self._inserting[user] -= len(news)
            if not self._inserting[user]:
                del self._inserting[user]

    async def cancel(self, uuid: UUID, user: User) -> Record:
        """Raises NotFound, Conflict, Unavailable."""
        return await self.store.cancel(uuid, user.username)

    async def log_page(
        self, event: str, after: UUID | None, records_max: int | None, descending: bool
    ) -> tuple[LogPage, AsyncIterator[list[Record]]]:
        """Where the page ends, and its records in portions. Raises BadRequest for an unknown ``after``."""
        check_name(event)
        start = None
        if after is not None:
            start = await self.store.number_of(event, after)
            if start is None:
                raise BadRequest(f"after: this event has no record with the uuid {after}")
        page = await self.store.log_end(event, start, records_max, descending)
        return page, self._portions(event, start, page.last, descending)

    async def _portions(
        self, event: str, after: int | None, last: int | None, descending: bool
    ) -> AsyncIterator[list[Record]]:
        while last is not None and after != last:
            records = await self.store.log(event, after, last, _LOG_PAGE_BYTES, descending)
            after = records[-1].number
            yield records

    # The stream

    def full(self, address: str) -> bool:
        """Whether another stream for a client of this address would be one too many, for now."""
        return self.hub.full(address)

    def subscribe(
        self,
        subscription: Subscription,
        address: str,
        last_id: str | None,
        connect: Callable[[Subscriber], StreamTransport | None],
    ) -> None:
        """Opens a stream that resumes after ``last_id``; None: it begins with the snapshot. ``connect`` gives the new
        subscriber its connection, or returns None if the client has gone meanwhile."""
        subscriber = Subscriber(self.hub, subscription, visitor(address))
        connection = connect(subscriber)
        if connection is not None:
            subscriber.connected(connection)
            self.hub.add(subscriber)
            self.catchup.connect(subscriber, last_id)

    def statistics(self) -> Statistics:
        """Figures of this node, as of now."""
        return Statistics(
            subscribers=len(self.hub.subscribers),
            live=self.hub.live,
            position=self.relay.position,
            deliveries=self.hub.deliveries,
            writes_waiting=self.store.waiting,
        )

    async def ready(self) -> None:
        """Raises Unavailable if the store is out of reach, or the log has moved to another one."""
        if not self.running or any(task.done() for task in self._tasks):
            raise Unavailable("Broker is not running")
        await self.store.check()
