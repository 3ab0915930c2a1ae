"""A PostgreSQL database: how it is connected to and migrated, who holds its lock, and what its errors mean."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import Connection, IsolationLevel, conninfo, errors, pq

from broker.errors import BrokerError, SettingsError
from broker.store.outage import FULL_ADVICE, Outage, away, fault, full

logger = logging.getLogger("broker.store")

_T = TypeVar("_T")

_CONNECT_S = 5
_PREPARE_AFTER = 5  # uses of a statement; psycopg's default
LOCK = 0x62726F6B6572  # "broker": the key of the advisory lock under which everything is written
# `broker move` holds this one, too: it says that its holder takes its time, and must be left alone. It outlasts the
# copy's transaction, so that no second copy goes on from a mark that the first may still take away.
MOVE_LOCK = LOCK + 1
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
    WHERE key = {LOCK} AND pid NOT IN (SELECT pid FROM held WHERE key = {MOVE_LOCK})
    AND wait_event_type = 'Client' AND state_change < clock_timestamp() - interval '{_STOPPED_MS} ms'"""  # noqa: S608 (constants only)
# For this transaction only: a pooling proxy may give the next one another connection. Timeouts of the role's own would
# come before the lock's.
SET_UP = f"""SELECT set_config('lock_timeout', '{_LOCK_MS}', true),
    set_config('statement_timeout', '0', true),
    CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
        THEN set_config('transaction_timeout', '0', true) END,
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), true)"""
# The server, its timeline and the table. One of them is another after what may have lost the log's tail: a fail-over, a
# recovery, a restored dump.
_CLUSTER = """SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' ||
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || 'broker.state'::regclass::oid"""


@dataclass(frozen=True, slots=True)
class Known:
    """What a connection found when it was made."""

    epoch: str
    moved: str | None  # where the log has moved to
    arrived: bool


class Database:
    """Where it is, and how it is connected to.

    Mutable state: whether statements are prepared: not until it is known that no proxy pools transactions."""

    def __init__(self, url: str, answer_s: float | None = None) -> None:
        """``answer_s``: the most seconds that an answer may take."""
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parts = {"port": "?"}
        host, name, port = (str(parts.get(part) or "") for part in ("host", "dbname", "port"))
        # libpq's own words would have the URL in them; and in these is what stands behind a sign in a password.
        if "@" in host + name or (port and not port.replace(",", "").isdigit()):
            raise SettingsError(
                "the URL cannot be read; give postgresql://user@host/name, with an @, : or / of a password "
                "as %40, %3A or %2F, and behind a ? only what libpq knows"
            )
        self._url = conninfo.make_conninfo(
            url,
            client_encoding="UTF8",  # whatever the role or the environment says
            application_name=parts.get("application_name") or "broker",
            connect_timeout=parts.get("connect_timeout") or _CONNECT_S,
            target_session_attrs=parts.get("target_session_attrs") or "read-write",
            # A server that has vanished is found in some 10 s.
            keepalives_idle=parts.get("keepalives_idle") or 5,
            keepalives_interval=parts.get("keepalives_interval") or 2,
            keepalives_count=parts.get("keepalives_count") or 3,
            tcp_user_timeout=parts.get("tcp_user_timeout") or 10_000,
        )
        self.address, name = _address(parts)
        self.name = f"PostgreSQL {name} at {host or 'local'}"  # without the password
        self.node = secrets.token_hex(4)  # in its hints; a process id of the server's may be a proxy's invention
        self.outage = Outage(self.name)
        self.prepares = False
        self._answer_s = answer_s

    def connect(self, *, listens: bool = False) -> Connection[Any]:
        connection = _Connection.connect(self._url, autocommit=True)
        connection.answer_s = self._answer_s
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        if not listens:  # what a pooling proxy lets it hear of would be kept without end
            connection.add_notify_handler(lambda notify: None)
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
        if isinstance(error, psycopg.DataError | psycopg.IntegrityError | ValueError | TypeError):
            return fault(error)
        self.outage.tell(error, "streams stay open; it goes on by itself when PostgreSQL can be written to again")
        return away()

    def refusal(self, error: Exception) -> SettingsError:
        """What the operator is told of a connection that failed."""
        if isinstance(error, errors.LockNotAvailable):
            return SettingsError(
                f"{self.name}: another program holds its lock, such as a `broker move`; wait for its end"
            )
        text = f"cannot use {self.name}: {' '.join(str(error).split())}"
        if isinstance(error, errors.InsufficientPrivilege):
            text += "; make the user the database's owner, or let it create a schema there"
        return SettingsError(text)


class _Connection(Connection[Any]):
    """A server that hangs, or a proxy that swallows everything, acknowledges each packet: TCP finds nothing wrong.

    The timeout is psycopg's own, and not public yet: hence the pin of its minor version."""

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
    """A URL with what the environment adds, and without the password; and the database's name."""
    defaults = {each.keyword.decode(): each.val.decode() for each in pq.Conninfo.get_defaults() if each.val}
    known = defaults | {name: str(value) for name, value in parts.items() if value}
    user, host, name = (quote(known.get(part, ""), safe=",") for part in ("user", "host", "dbname"))
    return f"postgresql://{user}@{host}:{known['port']}/{name or user}", known.get("dbname") or known.get("user", "")


def open_log(database: Database, *, new: bool = True) -> tuple[Connection[Any], Known]:
    """Connects, migrates, and begins a new epoch if this is another cluster than the log was last written on. Unless
    it may be ``new``, there must be a log."""
    connection = database.connect()
    try:
        (encoding,) = one_row(connection, "SHOW server_encoding")
        if encoding != "UTF8":
            raise SettingsError(f"{database.name} has the encoding {encoding}; Broker needs UTF8")
        known = insist(connection, lambda: _make_ready(connection, database.name, new))
    except BaseException:
        connection.close()
        raise
    return connection, known


def insist(connection: Connection[Any], transact: Callable[[], _T]) -> _T:
    """What ``transact`` returns, once it has got the lock; takes it away from a node that was stopped with it."""
    for _ in range(_LOCK_WAITS - 1):
        try:
            return transact()
        except errors.LockNotAvailable:
            connection.rollback()
            if connection.execute(_END_STOPPED).fetchall():
                logger.warning("another node has stopped within a write; its session was ended, so that others go on")
    return transact()


class TakenOver(Exception):
    """After a fail-over, the writer has not begun the new epoch yet."""


def check_cluster(connection: Connection[Any]) -> None:
    """For a connection that only reads. Raises TakenOver."""
    (cluster,) = one_row(connection, "SELECT cluster FROM broker.epochs WHERE ended IS NULL")
    if cluster != _cluster(connection):
        raise TakenOver("another server, or another timeline of it: the next write begins a new epoch")


def _make_ready(connection: Connection[Any], name: str, new: bool) -> Known:
    with connection.transaction():
        connection.execute(SET_UP)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not new and one_row(connection, "SELECT to_regclass('broker.state')") == (None,):
            raise SettingsError(f"{name} has no log of Broker")
        _migrate(connection, name)
        epoch = _find_epoch(connection)
        return Known(epoch, *one_row(connection, "SELECT moved, arrived FROM broker.state"))


def _find_epoch(connection: Connection[Any]) -> str:
    epoch, before = one_row(connection, "SELECT epoch, cluster FROM broker.epochs WHERE ended IS NULL")
    cluster = _cluster(connection)
    if cluster == before:
        return str(epoch)
    if before is None:
        connection.execute("UPDATE broker.epochs SET cluster = %s WHERE ended IS NULL", (cluster,))
        return str(epoch)
    logger.warning("a fail-over, a recovery or a restore (it is %s, it was %s): a new epoch begins", cluster, before)
    connection.execute("UPDATE broker.epochs SET ended = (SELECT head FROM broker.state) WHERE ended IS NULL")
    (epoch,) = one_row(
        connection,
        "INSERT INTO broker.epochs VALUES (substr(md5(gen_random_uuid()::text), 1, 8), NULL, %s) RETURNING epoch",
        cluster,
    )
    return str(epoch)


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
    # Asked first: to make what is there already takes the right to make it.
    if one_row(connection, "SELECT to_regnamespace('broker')") == (None,):
        connection.execute("CREATE SCHEMA broker")
    if one_row(connection, "SELECT to_regclass('broker.schema_version')") == (None,):
        connection.execute("CREATE TABLE broker.schema_version (version INTEGER NOT NULL)")
    (version,) = one_row(connection, "SELECT coalesce(max(version), 0) FROM broker.schema_version")
    folder = resources.files("broker.store.postgres") / "migrations"
    migrations = sorted(folder.iterdir(), key=lambda each: each.name)
    if version > len(migrations):
        raise SettingsError(
            f"{name} was written by a newer Broker (schema {version}, this one knows {len(migrations)}); update Broker"
        )
    for number, migration in enumerate(migrations[version:], version + 1):
        connection.execute(migration.read_text("utf-8"))
        connection.execute("INSERT INTO broker.schema_version VALUES (%s)", (number,))


def one_row(connection: Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None, query
    return row
