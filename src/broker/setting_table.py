"""The table of settings: of each the name, type, default, unit, what it sets or limits, and why.

``docs/settings.md`` is made from this table, and ``settings.py`` adds the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KIB, MIB = 1024, 1024 * 1024


def _set(default: Any, unit: str, what: str, why: str, **more: Any) -> Any:
    """A setting that people set: ``what`` it is, and ``why`` one would change it, or why the default is as it is."""
    return field(default=default, metadata={"unit": unit, "what": what, "why": why, "limit": False}, **more)


def _limit(default: Any, unit: str, what: str, why: str) -> Any:
    """A limit, or an interval: ``what`` it limits and what happens beyond, and ``why`` it exists and is so large."""
    return field(default=default, metadata={"unit": unit, "what": what, "why": why, "limit": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingTable:
    """The first group is what people set; the others are limits."""

    host: str = _set(
        "127.0.0.1", "address or name", "the address to listen on; a name stands for all its addresses",
        "by default only programs on this machine can connect; `0.0.0.0` lets every machine connect",
    )  # fmt: skip
    port: int = _set(
        8080, "port", "the port to listen on; 0 takes a free one",
        "the variable `PORT` is read too, as hosting platforms set it",
    )  # fmt: skip
    data: Path = _set(
        Path("./tmp"), "folder", "the folder of `broker.db` and of the token secret",
        "belongs on a disk that is backed up",
    )  # fmt: skip
    database: str = _set(
        "", "URL", "`postgresql://user@host/name` keeps the log in PostgreSQL; without it, SQLite keeps it in `data`",
        "one PostgreSQL serves several nodes", repr=False,
    )  # fmt: skip
    workers: int = _set(
        1, "count", "processes that share the port; more than one need `database`",
        "one process uses one core; the limits below hold for each process",
    )  # fmt: skip
    origin: tuple[str, ...] = _set(
        (), "origins",
        "the origins of web pages that may call (CORS): `https://app.example`, or `*` for all; without it, `broker "
        "serve` allows `http://localhost:*` and `http://127.0.0.1:*`",
        "browsers hide the responses from pages of all other origins",
    )  # fmt: skip
    allow_header: tuple[str, ...] = _set(
        (), "header names", "request headers that pages may send beyond those that Broker knows (CORS)",
        "some libraries add a header, such as `X-Requested-With` or `baggage`, and the browser blocks the request",
    )  # fmt: skip
    tls_certificate: Path | None = _set(
        None, "PEM file", "the certificate; with it Broker serves https",
        "saves a proxy in front; after SIGHUP, new connections use the renewed file",
    )  # fmt: skip
    tls_key: Path | None = _set(
        None, "PEM file", "the key of `tls_certificate`, without a pass phrase",
        "a server starts when nobody is there to type one",
    )  # fmt: skip
    token_secret: str = _set(
        "", "text", "the secret that signs tokens, 32 bytes or more; made on the first start if not given",
        "who knows it can be any user", repr=False,
    )  # fmt: skip
    token_ttl_s: int = _set(
        86_400, "seconds", "how long a token is valid", "one login lasts a working day and the night after it",
    )  # fmt: skip
    signup: bool = _set(
        True, "yes/no", "whether everybody can create a user; no: `POST /users` is a 403", "no, for a closed group",
    )  # fmt: skip
    events_public: bool = _set(
        True, "yes/no", "whether `GET /events` needs no token",
        "a plain EventSource cannot send one; no keeps events to users",
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = _set(
        ("127.0.0.1", "::1"), "addresses or networks",
        "the proxies whose `X-Forwarded-For` is believed; `none` trusts nobody",
        "the limits for each address apply to the client behind a proxy, never to the proxy itself",
    )  # fmt: skip
    metrics_token: str = _set(
        "", "text", "a token for `/metrics`",
        "without it only programs on this machine can read the metrics", repr=False,
    )  # fmt: skip

    # Limits of accounts
    user_age_max_s: float = _limit(
        5.0, "seconds", "how long a node uses a user from its cache",
        "spares a look-up with each request; a user that is disabled is refused after this time at the latest",
    )  # fmt: skip
    password_hashes_max: int = _limit(
        32, "count", "password hashes that are computed or wait for it; beyond: 429",
        "one takes some 20 ms and 19 MiB, so a login waits for a third of a second at most",
    )  # fmt: skip
    login_attempts_per_user: str = _limit(
        "5/minute; 20/hour", "rates",
        "logins from one address for one user name, counted anew after a right one; beyond: 429",
        "stops a guesser who tries many passwords",
    )  # fmt: skip
    login_attempts_per_name: str = _limit(
        "100/hour", "rates",
        "logins for one user name from all addresses where it never logged in, together; beyond: 429",
        "stops a guesser who has many addresses",
    )  # fmt: skip
    login_attempts_per_address: str = _limit(
        "60/minute", "rates",
        "logins from one address for all user names, right or wrong; beyond: 429; not for `trusted_proxies`",
        "stops a guesser who tries one password with many names",
    )  # fmt: skip
    signups_per_address: str = _limit(
        "20/minute; 200/hour", "rates", "new users from one address; beyond: 429; not for `trusted_proxies`",
        "stops a program that fills the store with users",
    )  # fmt: skip

    # Limits of connections
    connections_max: int = _limit(
        60_000, "count", "open connections, streams included; beyond: closed at once",
        "bounds memory; the limit of open files, less 100 for the database and others, holds as well",
    )  # fmt: skip
    connections_per_address_max: int = _limit(
        2_000, "count",
        "open connections from one address, streams included; beyond: closed at once; not for `trusted_proxies`",
        "keeps one client from taking all; many people in one office may share an address",
    )  # fmt: skip
    head_timeout_s: float = _limit(
        10.0, "seconds",
        "from the start of a connection, or the first byte of a later request, to the end of its headers; beyond: 408",
        "stops clients that keep connections busy by sending slowly (Slowloris)",
    )  # fmt: skip
    head_bytes_max: int = _limit(
        32 * KIB, "bytes", "the request line and the headers of one request; beyond: 431",
        "bounds memory; nginx accepts as much",
    )  # fmt: skip
    body_rate_min: int = _limit(
        1 * KIB, "bytes/s", "how fast a body must arrive on average, once `head_timeout_s` has passed; slower: 408",
        "stops clients that keep connections busy by sending slowly",
    )  # fmt: skip
    peer_timeout_s: float = _limit(
        60.0, "seconds",
        "how long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); then the connection is closed",
        "a peer that lost its network sends nothing more, not even an end",
    )  # fmt: skip
    backlog: int = _limit(
        2_048, "count", "connections that the kernel completes before they are accepted",
        "after a restart all clients connect at the same moment",
    )  # fmt: skip

    # Limits of inserts
    inserts_waiting_per_user_max: int = _limit(
        5_000, "records", "records of one user that wait for their commit; beyond: 429",
        "half of `insert_queue_max`, so that one user cannot fill the queue",
    )  # fmt: skip
    body_bytes_max: int = _limit(
        1 * MIB, "bytes", "the body of one request; beyond: 413", "a record is sent whole to every subscriber"
    )  # fmt: skip
    bodies_bytes_max: int = _limit(
        64 * MIB, "bytes", "bodies that are arriving, all together; beyond: 503 for those over 64 KiB",
        "bounds memory when many send large bodies at once; small ones still pass",
    )  # fmt: skip
    batch_records_max: int = _limit(
        1_000, "records", "records in one insert; beyond: 413",
        "its transaction holds the lock of the log for some 20 ms, and all others wait",
    )  # fmt: skip
    insert_queue_max: int = _limit(
        10_000, "count", "records and cancels that wait for a commit; beyond: 503",
        "they are some seconds of work: a client that waited longer would have given up",
    )  # fmt: skip
    insert_queue_bytes_max: int = _limit(
        64 * MIB, "bytes", "the data of the records that wait for a commit; beyond: 503",
        "bounds memory while the disk is slow",
    )  # fmt: skip
    commit_records_max: int = _limit(
        512, "count",
        "records in a transaction; beyond, it takes no further inserts, but those that arrived in one iteration of the "
        "event loop stay together",
        "a larger transaction would make its first insert wait for the others",
    )  # fmt: skip
    event_names_max: int = _limit(
        100_000, "count", "different event names; beyond: 507",
        "the latest record of each is in every snapshot, and in memory",
    )  # fmt: skip
    snapshot_bytes_max: int = _limit(
        64 * MIB, "bytes", "the data of the latest record of every event together; beyond: 507",
        "every node keeps it in memory, and every new subscriber receives it",
    )  # fmt: skip

    # Limits of streams
    subscribers_max: int = _limit(
        50_000, "count", "open streams; beyond: a stream that ends at once",
        "leaves connections for requests below `connections_max`",
    )  # fmt: skip
    subscribers_per_address_max: int = _limit(
        1_000, "count", "open streams from one address; beyond: a stream that ends at once; not for `trusted_proxies`",
        "keeps one client from taking all; many people in one office may share an address",
    )  # fmt: skip
    filters_max: int = _limit(
        100, "count", "`event` parameters of one stream; beyond: 400",
        "each is an entry in the index that every record looks up",
    )  # fmt: skip
    replay_max: int = _limit(
        10_000, "records",
        "how far behind a resume gets every missed record; further: `$skipped`, then the latest of each event",
        "a page needs the state sooner than all that led to it",
    )  # fmt: skip
    replay_bytes_max: int = _limit(
        16 * MIB, "bytes", "the data of the records that a resume gets; further: `$skipped`",
        "takes some seconds on a slow line",
    )  # fmt: skip
    heartbeat_s: float = _limit(
        15.0, "seconds", "how long a stream is idle before it gets a heartbeat",
        "proxies close idle connections after 30 to 60 s",
    )  # fmt: skip
    subscriber_stall_s: float = _limit(
        30.0, "seconds",
        "how long a client may read nothing while there is something to read; beyond: its stream is cut off",
        "a dead client must not keep memory",
    )  # fmt: skip
    subscriber_buffer_bytes: int = _limit(
        64 * KIB, "bytes", "bytes that this process buffers for one stream before the subscriber counts as slow",
        "bounds memory; only with TLS or under another ASGI server, as plain streams have `subscriber_sndbuf_bytes`",
    )  # fmt: skip
    subscriber_sndbuf_bytes: int = _limit(
        256 * KIB, "bytes", "bytes that the kernel buffers for one stream (SO_SNDBUF)",
        "without it the kernel would buffer up to 4 MB",
    )  # fmt: skip
    turn_bytes_max: int = _limit(
        1 * MIB, "bytes", "live records that are joined into one write to each subscriber",
        "bounds memory; one write for many costs less",
    )  # fmt: skip
    retry_ms: int = _limit(
        2_000, "milliseconds", "after how long clients reconnect: between half and one and a half of this, at random",
        "after a restart they come spread over time",
    )  # fmt: skip

    # Intervals and threads within the server
    relay_poll_s: float = _limit(
        5.0, "seconds", "how often a node looks for new records in the store without having been notified",
        "a notification can get lost, and then delays its record by so much",
    )  # fmt: skip
    database_answer_s: float = _limit(
        20.0, "seconds", "how long PostgreSQL may take for one answer; beyond: 503, and another connection",
        "the largest answer, the snapshot, takes less; so a database that takes longer hangs",
    )  # fmt: skip
    scheduler_sleep_max_s: float = _limit(
        30.0, "seconds", "how long the scheduler sleeps at most",
        "when the clock is set, it notices after this time at the latest",
    )  # fmt: skip
    reader_threads: int = _limit(
        4, "count", "reads of the store at the same time; further ones wait", "each takes a thread and a connection"
    )  # fmt: skip
    shutdown_grace_s: float = _limit(
        2.0, "seconds", "how long open requests may take after SIGTERM", "supervisors kill a process that stops slowly"
    )  # fmt: skip
