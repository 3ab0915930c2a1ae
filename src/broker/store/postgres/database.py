"""A PostgreSQL database: how Broker connects to it and migrates it, who holds its lock, and what its errors mean.

The lock is one advisory lock for all writers of the log, on all nodes. PostgreSQL releases it at the end of a
transaction, or of a session that it knows to have ended. The danger: a node may stop in the middle of a transaction,
for example because its machine is suspended or unplugged. PostgreSQL cannot distinguish such a node from a slow client,
so it does not release the lock, and all other nodes would wait. ``with_lock`` ends the session of such a node."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import Connection, IsolationLevel, conninfo, errors, pq

from broker.errors import BrokerError, SettingsError
from broker.store.migrations import Migrations
from broker.store.outage import FULL_ADVICE, Outage, fault, full, unreachable

logger = logging.getLogger("broker.store")

_T = TypeVar("_T")

MIGRATIONS = Migrations("broker.store.postgres")

_CONNECT_S = 5
# A statement is prepared after it was used this many times. This is psycopg's default.
_PREPARE_AFTER = 5
LOCK = 0x62726F6B6572  # the bytes of "broker": the key of the advisory lock under which everything is written
# `broker move` holds this lock in addition to LOCK. Nodes that wait for LOCK must not end a session that holds it,
# however long the move takes. It is kept until the end of the session, and not only of the transaction, so that a
# second move cannot act on a mark which the first move may still withdraw.
MOVE_LOCK = LOCK + 1
# How long a transaction waits for the lock before it checks who holds it, and how often it waits before it gives up.
_LOCK_MS = 1_000
_LOCK_WAITS = 5
# The node that holds the lock counts as stopped if it has sent nothing for this long, while PostgreSQL waits for it.
_STOPPED_MS = 2_000
# Ends the session of a node that has stopped. PostgreSQL's own timeout, idle_in_transaction_session_timeout, cannot do
# this: it begins after a Sync message, and a pipeline sends none before its end.
_END_STOPPED = f"""WITH held AS (
        SELECT pid, (classid::bigint << 32) + objid::bigint AS key FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT pg_terminate_backend(pid) FROM held JOIN pg_stat_activity USING (pid)
    WHERE key = {LOCK} AND pid NOT IN (SELECT pid FROM held WHERE key = {MOVE_LOCK})
    AND wait_event_type = 'Client' AND state_change < clock_timestamp() - interval '{_STOPPED_MS} ms'"""  # noqa: S608 (constants only)
# These settings are sent at the beginning of each transaction, and are valid only until its end: behind a proxy that
# pools connections, the next transaction may use another connection. The role's own timeouts are switched off, because
# a timeout that is shorter than that of the lock would end the transaction with an error that says nothing about the
# lock. And if ``synchronous_commit`` is off, it is switched on, because a commit must be on disk before it is
# acknowledged.
SET_UP = f"""SELECT set_config('lock_timeout', '{_LOCK_MS}', true),
    set_config('statement_timeout', '0', true),
    CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
        THEN set_config('transaction_timeout', '0', true) END,
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"""
# Identifies the server, its timeline and the table. Whatever may lose the end of the log changes one of the three: a
# recovery or a fail-over begins another timeline, and a dump is restored into another table.
_CLUSTER = """SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' ||
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || 'broker.state'::regclass::oid"""


@dataclass(frozen=True, slots=True)
class LogState:
    """What the database said about the log when the connection was opened."""

    epoch: str
    moved: str | None  # where the log has moved to; None: it has not moved
    arrived: bool  # whether it is known that the log is there


class Database:
    """Where the database is, and how to connect to it.

    Mutable state: whether statements are prepared (``prepares``). They are not prepared before it is known that no
    proxy pools transactions, because such a proxy would execute a prepared statement on a connection that does not know
    it."""

    def __init__(self, url: str, answer_s: float | None = None) -> None:
        """``answer_s`` is how many seconds PostgreSQL may take for one response; None means that it may take any time.
        Raises SettingsError if the URL cannot be read."""
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parts = {"port": "?"}
        host, name, port = (str(parts.get(part) or "") for part in ("host", "dbname", "port"))
        # The message does not quote libpq's error, which contains the URL with the password. It does not quote the host
        # or the name either: if a password has an @, : or / that is not escaped, a piece of the password is in one of
        # them.
        if "@" in host + name or (port and not port.replace(",", "").isdigit()):
            raise SettingsError(
                "the URL cannot be read; give postgresql://user@host/name, with an @, : or / of a password "
                "as %40, %3A or %2F, and behind a ? only what libpq knows"
            )
        self._url = conninfo.make_conninfo(
            url,
            client_encoding="UTF8",  # the role or the environment may have another default
            application_name=parts.get("application_name") or "broker",
            connect_timeout=parts.get("connect_timeout") or _CONNECT_S,
            target_session_attrs=parts.get("target_session_attrs") or "read-write",
            # With these values a connection to a server that can no longer be reached fails within about 10 s.
            keepalives_idle=parts.get("keepalives_idle") or 5,
            keepalives_interval=parts.get("keepalives_interval") or 2,
            keepalives_count=parts.get("keepalives_count") or 3,
            tcp_user_timeout=parts.get("tcp_user_timeout") or 10_000,
        )
        self.address, name = _address(parts)
        self.name = f"PostgreSQL {name} at {host or 'local'}"  # the name for messages, without the password
        # The name by which this node recognises its own notifications. The process id that PostgreSQL reports would do
        # as well, but behind a proxy it may not be the real one.
        self.node = secrets.token_hex(4)
        self.outage = Outage(self.name)
        self.prepares = False
        self._answer_s = answer_s

    def connect(self, *, listens: bool = False) -> Connection[Any]:
        connection = _Connection.connect(self._url, autocommit=True)
        connection.answer_s = self._answer_s
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        if not listens:
            # Behind a pooling proxy, this connection may receive notifications that another connection has asked for.
            # Without a handler, psycopg would keep all of them in memory.
            connection.add_notify_handler(lambda notify: None)
        self.set_prepares(connection)
        return connection

    def set_prepares(self, connection: Connection[Any]) -> None:
        connection.prepare_threshold = _PREPARE_AFTER if self.prepares else None

    def translate(self, error: Exception) -> BrokerError:
        """Returns the error that a caller gets after a failure, and reports the details in the server's log."""
        if isinstance(error, errors.DiskFull):
            self.outage.report(error, FULL_ADVICE)
            return full()
        # A SettingsError, for example about a log that no longer exists, is for the operator and not for callers.
        if isinstance(error, BrokerError) and not isinstance(error, SettingsError):
            return error
        if isinstance(error, psycopg.DataError | psycopg.IntegrityError | ValueError | TypeError):
            return fault(error)
        advice = "streams stay open; inserts continue by themselves when PostgreSQL can be written to again"
        self.outage.report(error, advice)
        return unreachable()

    def refusal(self, error: Exception) -> SettingsError:
        """Returns the error that the operator gets if the database cannot be used."""
        if isinstance(error, errors.LockNotAvailable):
            return SettingsError(
                f"{self.name}: another program holds its lock, such as a `broker move`; wait until that has ended"
            )
        text = f"cannot use {self.name}: {' '.join(str(error).split())}"
        if isinstance(error, errors.InsufficientPrivilege):
            text += "; make the user the database's owner, or let it create a schema there"
        return SettingsError(text)


class _Connection(Connection[Any]):
    """A connection on which each response must arrive within ``answer_s``.

    A timeout of TCP does not help if the server hangs, or if a proxy discards everything, because both still
    acknowledge each packet. The timeout that is used here is psycopg's own, but it is not public yet, which is why the
    project pins psycopg's minor version."""

    answer_s: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
        except errors._WaitTimeout:
            if timeout is None:
                self.close()
                raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s (database_answer_s)") from None
            raise


def _address(parts: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the URL without the password, completed with the values from the environment, and the name of the
    database."""
    defaults = {option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val}
    merged = defaults | {name: str(value) for name, value in parts.items() if value}
    user, host, name = (quote(merged.get(part, ""), safe=",") for part in ("user", "host", "dbname"))
    return f"postgresql://{user}@{host}:{merged['port']}/{name or user}", merged.get("dbname") or merged.get("user", "")


def open_log(database: Database, *, new: bool = True) -> tuple[Connection[Any], LogState]:
    """Connects, migrates the log, and begins a new epoch if the log was last written on another cluster than this one.

    ``new`` says whether a log may be made if there is none. Raises SettingsError, or psycopg's errors."""
    connection = database.connect()
    try:
        (encoding,) = one_row(connection, "SHOW server_encoding")
        if encoding != "UTF8":
            raise SettingsError(f"{database.name} has the encoding {encoding}; Broker needs UTF8")
        state = with_lock(connection, lambda: _make_ready(connection, database.name, new))
    except BaseException:
        connection.close()
        raise
    return connection, state


def with_lock(connection: Connection[Any], transact: Callable[[], _T]) -> _T:
    """Calls ``transact``, a transaction that takes LOCK, and returns its result. If another session holds the lock for
    too long, ``transact`` is called again, a few times. If the node of that session has stopped within its transaction,
    PostgreSQL is asked to end the session.

    When the stopped node continues, it finds that its connection is lost. Its transaction was rolled back, and nothing
    of it was acknowledged, because PostgreSQL had not received its COMMIT."""
    for _ in range(_LOCK_WAITS - 1):
        try:
            return transact()
        except errors.LockNotAvailable:
            connection.rollback()
            if connection.execute(_END_STOPPED).fetchall():
                logger.warning("another node has stopped within a write; its session was ended: writes continue")
    return transact()


class TakenOver(Exception):
    """A fail-over has happened, and no writer has begun the new epoch yet."""


def check_cluster(connection: Connection[Any]) -> None:
    """Called with each new connection that only reads. Raises TakenOver if there was a fail-over: the log may have lost
    its end, and must not be read under the old epoch, which promises that it has lost nothing."""
    (cluster,) = one_row(connection, "SELECT cluster FROM broker.epochs WHERE ended IS NULL")
    if cluster != _cluster(connection):
        raise TakenOver("another server, or another timeline of it: the next write begins a new epoch")


def _make_ready(connection: Connection[Any], name: str, new: bool) -> LogState:
    """Migrates the log, finds its epoch, and returns its state. This is one transaction under the lock, because nodes
    that start at the same time must not migrate, or begin an epoch, twice."""
    with connection.transaction():
        connection.execute(SET_UP)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not new and one_row(connection, "SELECT to_regclass('broker.state')") == (None,):
            raise SettingsError(f"{name} has no log of Broker")
        _migrate(connection, name)
        epoch = _find_epoch(connection)
        return LogState(epoch, *one_row(connection, "SELECT moved, arrived FROM broker.state"))


def _find_epoch(connection: Connection[Any]) -> str:
    """Returns the current epoch. If the log may have lost its end since that epoch began, begins and returns a new
    epoch."""
    epoch, before = one_row(connection, "SELECT label, cluster FROM broker.epochs WHERE ended IS NULL")
    cluster = _cluster(connection)
    if cluster == before:
        return str(epoch)
    # The log is new, or was moved here, or PostgreSQL did not report the cluster when the epoch was begun.
    if before is None:
        connection.execute("UPDATE broker.epochs SET cluster = %s WHERE ended IS NULL", (cluster,))
        return str(epoch)
    logger.warning("a fail-over, a recovery or a restore (this is %s, it was %s): a new epoch begins", cluster, before)
    connection.execute("UPDATE broker.epochs SET ended = (SELECT head FROM broker.state) WHERE ended IS NULL")
    (epoch,) = one_row(
        connection,
        "INSERT INTO broker.epochs VALUES (substr(md5(gen_random_uuid()::text), 1, 8), NULL, %s) RETURNING label",
        cluster,
    )
    return str(epoch)


def _cluster(connection: Connection[Any]) -> str | None:
    """Returns the value of the query _CLUSTER. Returns None if PostgreSQL does not report it, because some hosting
    providers do not permit this query."""
    try:
        with connection.transaction():
            (cluster,) = one_row(connection, _CLUSTER)
    except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFunction) as error:
        logger.warning(
            "PostgreSQL does not report its timeline (%s): a fail-over that loses records goes unnoticed", error
        )
        return None
    return str(cluster)


def _migrate(connection: Connection[Any], name: str) -> None:
    # CREATE ... IF NOT EXISTS needs the permission to create the object even if it exists already. So the code asks
    # first.
    if one_row(connection, "SELECT to_regnamespace('broker')") == (None,):
        connection.execute("CREATE SCHEMA broker")
    if one_row(connection, "SELECT to_regclass('broker.schema_version')") == (None,):
        connection.execute("CREATE TABLE broker.schema_version (version INTEGER NOT NULL)")
    (version,) = one_row(connection, "SELECT coalesce(max(version), 0) FROM broker.schema_version")
    MIGRATIONS.check(version, name)
    for number, script in MIGRATIONS.after(version):
        connection.execute(script)
        connection.execute("INSERT INTO broker.schema_version VALUES (%s)", (number,))


def one_row(connection: Connection[Any], query: str, *values: Any) -> Any:
    """Returns the first row of a query that always has at least one row."""
    row = connection.execute(query, values or None).fetchone()
    assert row is not None, query
    return row
