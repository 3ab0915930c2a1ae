"""A PostgreSQL database: how it is connected to and migrated, and the writer's connection to it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import Connection, conninfo, errors, pq

from broker.errors import BrokerError, SettingsError
from broker.settings import Settings
from broker.store.outage import FULL_ADVICE, Outage, away, full, moved
from broker.store.postgres_tables import NEXT_DUE, PostgresTables
from broker.store.transaction import Counters, Transaction

logger = logging.getLogger("broker.store")

_T = TypeVar("_T")

CHANNEL = "broker"
_CONNECT_S = 5
_PREPARE_AFTER = 5  # uses of a statement; psycopg's default
LOCK = 0x62726F6B6572  # "broker": the key of the advisory lock under which everything is written
# `broker copy` holds this one, too: it says that its holder takes its time, and must be left alone. It outlasts the
# copy's transaction, so that no second copy goes on from a mark that the first may still take away.
COPY_LOCK = LOCK + 1
# How long a transaction waits for the lock before it looks at who has it, and how often it does so.
_LOCK_MS = 1_000
_LOCK_WAITS = 5
_STOPPED_MS = 2_000
# A node that was stopped, or lost, while it holds the lock must not hold up the others. PostgreSQL's own timeout is of
# no use: it counts only after a Sync, and a pipeline has none before its end.
_END_STOPPED = f"""WITH held AS (
        SELECT pid, (classid::bigint << 32) + objid::bigint AS key FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT pg_terminate_backend(pid) FROM held JOIN pg_stat_activity USING (pid)
    WHERE key = {LOCK} AND pid NOT IN (SELECT pid FROM held WHERE key = {COPY_LOCK})
    AND wait_event_type = 'Client' AND state_change < clock_timestamp() - interval '{_STOPPED_MS} ms'"""  # noqa: S608 (constants only)
_CLOCK_WINDOW_S = 60.0
_SET_BACK_US = 1_000_000
NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BEGIN = f"""SELECT {NOW_US}, last_number, head, total_bytes, event_names, reserved_bytes, ({NEXT_DUE}), moved
    FROM broker.state"""  # noqa: S608 (constants only)
# For this transaction only: a pooling proxy may give the next one another connection.
_SET_UP = f"""SELECT set_config('lock_timeout', '{_LOCK_MS}', true),
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"""
# The server, its timeline and the table. One of them is another after what may have lost the log's tail: a fail-over, a
# recovery, a restored dump.
_CLUSTER = """SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' ||
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || 'broker.state'::regclass::oid"""


@dataclass(frozen=True, slots=True)
class Known:
    """What a connection found when it was made."""

    epoch: str
    cluster: str | None
    moved: str | None  # where the log has moved to
    arrived: bool


class Database:
    """Where it is, and how it is connected to.

    Mutable state: whether statements are prepared: not until it is known that no proxy pools transactions."""

    def __init__(self, url: str) -> None:
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parts = {"port": "?"}
        host, name, port = (str(parts.get(part) or "") for part in ("host", "dbname", "port"))
        # libpq's own words would have the URL in them; and in these two is what stands behind a sign in a password.
        if "@" in host or (port and not port.replace(",", "").isdigit()):
            raise SettingsError(
                "database: the URL cannot be read; give postgresql://user@host/name, with an @, : or / of a password "
                "as %40, %3A or %2F"
            )
        self._url = conninfo.make_conninfo(
            url,
            application_name=parts.get("application_name") or "broker",
            connect_timeout=parts.get("connect_timeout") or _CONNECT_S,
            target_session_attrs=parts.get("target_session_attrs") or "read-write",
            # A server that has vanished is found in some 10 s.
            keepalives_idle=parts.get("keepalives_idle") or 5,
            keepalives_interval=parts.get("keepalives_interval") or 2,
            keepalives_count=parts.get("keepalives_count") or 3,
            tcp_user_timeout=parts.get("tcp_user_timeout") or 10_000,
        )
        self.name = f"PostgreSQL {name} at {host or 'local'}"  # without the password
        self.address = _address(parts)
        self.node = secrets.token_hex(4)  # in its hints; a process id of the server's may be a proxy's invention
        self.outage = Outage(self.name)
        self.prepares = False

    def connect(self) -> Connection[Any]:
        connection = psycopg.connect(self._url, autocommit=True)
        self.set_prepares(connection)
        return connection

    def set_prepares(self, connection: Connection[Any]) -> None:
        connection.prepare_threshold = _PREPARE_AFTER if self.prepares else None

    def translate(self, error: Exception) -> BrokerError:
        """What a caller may know of a failure; the log has it all."""
        if isinstance(error, errors.DiskFull):
            self.outage.tell(error, FULL_ADVICE)
            return full()
        if isinstance(error, BrokerError) and not isinstance(error, SettingsError):
            return error
        self.outage.tell(error, "streams stay open; it goes on by itself when PostgreSQL can be written to again")
        return away()

    def refusal(self, error: Exception) -> SettingsError:
        """What the operator is told of a connection that failed."""
        if isinstance(error, errors.LockNotAvailable):
            return SettingsError(
                f"{self.name}: another program holds its lock, such as a `broker copy`; wait for its end"
            )
        return SettingsError(f"cannot use {self.name}: {str(error).strip()}")


def _address(parts: Mapping[str, Any]) -> str:
    """A URL with what the environment adds, and without the password."""
    defaults = {each.keyword.decode(): each.val.decode() for each in pq.Conninfo.get_defaults() if each.val}
    known = defaults | {name: str(value) for name, value in parts.items() if value}
    user, host, name = (quote(known.get(part, ""), safe=",") for part in ("user", "host", "dbname"))
    return f"postgresql://{user}@{host}:{known['port']}/{name or user}"


class StoreClock:
    """The database's clock, as well as it is known without asking.

    Mutable state: how far it is ahead of this machine's monotonic clock; a tuple, as several threads hear of it."""

    def __init__(self, given: Callable[[], int] | None) -> None:
        """``given``: in its place, microseconds since the epoch."""
        self._given = given
        self._heard: tuple[int, float] | None = None  # microseconds ahead, and when that was heard

    def hear(self, now_us: int) -> int:
        """What the database has just said; returns it. What is on its way for long makes it late, so of several the
        one that is the most ahead is right, until that is long ago, or the clock was set back."""
        if self._given is not None:
            return self._given()
        heard_s = time.monotonic()
        ahead_us = now_us - round(heard_s * 1e6)
        known = self._heard
        if known is None or not -_SET_BACK_US < ahead_us - known[0] < 0 or heard_s - known[1] > _CLOCK_WINDOW_S:
            self._heard = ahead_us, heard_s
        return now_us

    def now_us(self) -> int:
        if self._given is not None:
            return self._given()
        assert self._heard is not None, "not started"
        return round(time.monotonic() * 1e6) + self._heard[0]


class PostgresSession:
    """See ``writer.Session``. Connects again, by itself, when the connection is lost.

    Mutable state: its connection, and what that found."""

    def __init__(self, database: Database, clock: Callable[[], int] | None, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._connection: Connection[Any] | None = None
        self.known: Known | None = None
        self.clock = StoreClock(clock)

    def open(self) -> Known:
        self._connection, self.known = open_log(self._database)
        return self.known

    def run(self, work: Callable[[Transaction], _T]) -> _T:
        try:
            result = self._run(work)
        except Exception as error:  # whatever it is, the callers must hear of it and the writer must live on
            if self._connection is not None:
                # A new one for the next transaction: whatever state this one is in, the server rolls it back.
                self._connection.close()
            raise self._database.translate(error) from error
        self._database.outage.over()
        return result

    def _run(self, work: Callable[[Transaction], _T]) -> _T:
        if self._connection is not None and not self._connection.closed:
            try:
                return self._insist(self._connection, work)
            except NotBegun:  # it may have been lost long ago: once more, on a new one
                self._connection.close()
        self.open()
        assert self._connection is not None
        return self._insist(self._connection, work)

    def _insist(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        return _insist(connection, lambda: self._transact(connection, work))

    def _transact(self, connection: Connection[Any], work: Callable[[Transaction], _T]) -> _T:
        self._database.set_prepares(connection)
        with connection.pipeline():
            try:
                connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                connection.execute(_SET_UP)
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                # Under the lock: a clock read before might order this transaction before another's.
                row = one_row(connection, _BEGIN)
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise NotBegun from error
                raise
            if row[7] is not None:
                self._database.outage.tell(moved(), f"stop this server, and start with {row[7]}")
                raise moved()
            now_us = self.clock.hear(row[0])
            before = Counters(*row[1:6])
            transaction = Transaction(PostgresTables(connection, before, row[6]), now_us, self._settings)
            result = work(transaction)
            if transaction.head != before.head or transaction.next_due_us != row[6]:
                connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._hint(transaction)))
            connection.execute("COMMIT")
        return result

    def _hint(self, transaction: Transaction) -> str:
        due = "" if transaction.next_due_us is None else transaction.next_due_us
        return f"{self._database.node} {transaction.head} {due}"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def open_log(database: Database, *, new: bool = True) -> tuple[Connection[Any], Known]:
    """Connects, migrates, and begins a new epoch if this is another cluster than the log was last written on. Unless
    it may be ``new``, there must be a log."""
    connection = database.connect()
    try:
        if connection.info.encoding != "utf-8":
            connection.execute("SET client_encoding = 'UTF8'")
        (encoding,) = one_row(connection, "SHOW server_encoding")
        if encoding != "UTF8":
            raise SettingsError(f"{database.name} has the encoding {encoding}; Broker needs UTF8")
        known = _insist(connection, lambda: _make_ready(connection, database.name, new))
    except BaseException:
        connection.close()
        raise
    return connection, known


def _insist(connection: Connection[Any], transact: Callable[[], _T]) -> _T:
    """What ``transact`` returns, once it has got the lock; takes it away from a node that was stopped with it."""
    for _ in range(_LOCK_WAITS - 1):
        try:
            return transact()
        except errors.LockNotAvailable:
            connection.rollback()
            if connection.execute(_END_STOPPED).fetchall():
                logger.warning("another node has stopped within a write; its session was ended, so that others go on")
    return transact()


class NotBegun(Exception):
    """The connection was lost before its transaction did anything."""


class TakenOver(Exception):
    """After a fail-over, the writer has not begun the new epoch yet."""


def check_cluster(connection: Connection[Any]) -> None:
    """For a connection that only reads. Raises TakenOver."""
    (cluster,) = one_row(connection, "SELECT cluster FROM broker.epochs WHERE ended IS NULL")
    if cluster != _cluster(connection):
        raise TakenOver("another server, or another timeline of it: the next write begins a new epoch")


def _make_ready(connection: Connection[Any], name: str, new: bool) -> Known:
    with connection.transaction():
        connection.execute(_SET_UP)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not new and one_row(connection, "SELECT to_regclass('broker.state')") == (None,):
            raise SettingsError(f"{name} has no log of Broker")
        _migrate(connection, name)
        epoch, cluster = _find_epoch(connection)
        return Known(epoch, cluster, *one_row(connection, "SELECT moved, arrived FROM broker.state"))


def _find_epoch(connection: Connection[Any]) -> tuple[str, str | None]:
    epoch, before = one_row(connection, "SELECT epoch, cluster FROM broker.epochs WHERE ended IS NULL")
    cluster = _cluster(connection)
    if cluster == before:
        return epoch, cluster
    if before is None:
        connection.execute("UPDATE broker.epochs SET cluster = %s WHERE ended IS NULL", (cluster,))
        return epoch, cluster
    logger.warning("a fail-over, a recovery or a restore (it is %s, it was %s): a new epoch begins", cluster, before)
    connection.execute("UPDATE broker.epochs SET ended = (SELECT head FROM broker.state) WHERE ended IS NULL")
    (epoch,) = one_row(
        connection,
        "INSERT INTO broker.epochs VALUES (substr(md5(gen_random_uuid()::text), 1, 8), NULL, %s) RETURNING epoch",
        cluster,
    )
    return epoch, cluster


def _cluster(connection: Connection[Any]) -> str | None:
    try:
        with connection.transaction():
            (cluster,) = one_row(connection, _CLUSTER)
    except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFunction) as error:
        logger.warning(
            "PostgreSQL does not tell its timeline (%s): a fail-over that loses records goes unnoticed", error
        )
        return None
    return str(cluster)


def _migrate(connection: Connection[Any], name: str) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS broker")
    connection.execute("CREATE TABLE IF NOT EXISTS broker.schema_version (version INTEGER NOT NULL)")
    (version,) = one_row(connection, "SELECT coalesce(max(version), 0) FROM broker.schema_version")
    folder = resources.files("broker.store") / "migrations/postgres"
    migrations = sorted(folder.iterdir(), key=lambda each: each.name)
    if version > len(migrations):
        raise SettingsError(
            f"{name} was written by a newer Broker (schema {version}, this one knows {len(migrations)}); update Broker"
        )
    for number, migration in enumerate(migrations[version:], version + 1):
        connection.execute(migration.read_text())
        connection.execute("INSERT INTO broker.schema_version VALUES (%s)", (number,))


def one_row(connection: Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None, query
    return row
