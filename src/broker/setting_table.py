"""The table of settings: each has a name, a type, a default, a unit, what it sets or limits, and the reason.

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
        "127.0.0.1", "address or name", "the address to listen on; a name means all addresses of that name",
        "by default only programs on this machine can connect; `0.0.0.0` lets every machine connect",
    )  # fmt: skip
    port: int = _set(
        8080, "port", "the port to listen on; with 0, Broker takes a free port",
        "the variable `PORT` is read too, because hosting platforms set it",
    )  # fmt: skip
    data: Path = _set(
        Path("./tmp"), "folder", "the folder of `broker.db` and of the token secret",
        "put it on a disk that is backed up",
    )  # fmt: skip
    database: str = _set(
        "", "URL", "`postgresql://user@host/name` keeps the log in PostgreSQL; without it, SQLite keeps it in `data`",
        "one PostgreSQL serves several nodes", repr=False,
    )  # fmt: skip
    workers: int = _set(
        1, "count", "processes that share the port; more than one process needs `database`",
        "one process uses one core; the limits below apply to each process",
    )  # fmt: skip
    origin: tuple[str, ...] = _set(
        (), "origins",
        "the origins of web pages that may call (CORS): `https://app.example`, or `*` for all; without it, `broker "
        "serve` allows `http://localhost:*` and `http://127.0.0.1:*`",
        "browsers hide the responses from pages of all other origins",
    )  # fmt: skip
    allow_header: tuple[str, ...] = _set(
        (), "header names", "request headers that pages may send, in addition to those that Broker knows (CORS)",
        "some libraries add a header, such as `baggage`; if it is not allowed, the browser blocks the request",
    )  # fmt: skip
    static: Path | None = _set(
        None, "folder", "a built front-end, which Broker serves at `/`; it has an `index.html`",
        "a page that Broker serves has the same origin as the API, so it needs no CORS and no second server",
    )  # fmt: skip
    console: str = _set(
        "auto", "auto, yes or no",
        "whether there is a console, a page to look at events and to change them: at `/`, or with `static` at "
        "`/$console`; with `auto`, there is none if `static` is served on other addresses than this machine's",
        "the scripts of the front-end could act in the name of an administrator who has logged in to the console",
    )  # fmt: skip
    console_name: str = _set(
        "", "text", "what the console calls this server, such as `production`; 64 characters at most",
        "you notice at a glance on which of several servers you are",
    )  # fmt: skip
    tls_certificate: Path | None = _set(
        None, "PEM file", "the certificate; with it Broker serves https",
        "no proxy is needed for https; after SIGHUP, new connections use the renewed file",
    )  # fmt: skip
    tls_key: Path | None = _set(
        None, "PEM file", "the key of `tls_certificate`, without a pass phrase",
        "nobody is there to type a pass phrase when the server starts",
    )  # fmt: skip
    token_secret: str = _set(
        "", "text", "the secret that signs tokens, 32 bytes or more; if not given, Broker makes one on the first start",
        "whoever knows it can act as any user", repr=False,
    )  # fmt: skip
    token_ttl_s: int = _set(
        86_400, "seconds", "how long a token is valid", "one login lasts a working day and the night after it",
    )  # fmt: skip
    session_max_s: int = _set(
        2_592_000, "seconds", "how long one login lasts at most, however often its token is renewed",
        "whoever gets hold of a token cannot renew it for ever; the default is 30 days",
    )  # fmt: skip
    ticket_ttl_s: int = _set(
        3_600, "seconds",
        "how long a ticket is valid, with which a plain EventSource opens streams (`POST /session`); an hour at most",
        "a ticket is a part of a URL, which more people may get to see than a header",
    )  # fmt: skip
    signup: bool = _set(
        True, "yes/no", "whether everybody can create a user; with `no`, `POST /users` is answered with 403",
        "use `no` for a closed group",
    )  # fmt: skip
    events_public: bool = _set(
        True, "yes/no", "whether `GET /events` needs no token",
        "a plain EventSource cannot send a token; with `no`, only users can read events",
    )  # fmt: skip
    rules: Path | None = _set(
        None, "TOML file", "the rules that `broker serve` applies when it starts and on SIGHUP: who may do what",
        "without rules everything is open; docs/access.md",
    )  # fmt: skip
    rules_may_widen: bool = _set(
        False, "yes/no", "whether the file in `rules` may permit more than the rules in force; `--yes`",
        "a slip in a file must not open the server",
    )  # fmt: skip
    rules_over_http: bool = _set(
        False, "yes/no", "whether administrators may write rules over HTTP",
        "with `no`, a stolen token of an administrator does not open the server",
    )  # fmt: skip
    open: bool = _set(
        False, "yes/no", "whether a server without rules serves other machines, too",
        "without rules, everybody who reaches the server may read and change everything",
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = _set(
        ("127.0.0.1", "::1"), "addresses or networks",
        "the proxies whose `X-Forwarded-For` is trusted; with `none`, no proxy is trusted",
        "the limits for each address apply to the client behind a proxy, never to the proxy itself",
    )  # fmt: skip
    metrics_token: str = _set(
        "", "text", "a token for `/metrics`",
        "without it only programs on this machine can read the metrics", repr=False,
    )  # fmt: skip

    # Limits of accounts
    user_age_max_s: float = _limit(
        5.0, "seconds", "how long a node uses a user from its cache",
        "avoids a look-up for each request; if a user is changed directly in the database, every node notices it after "
        "this time at the latest",
    )  # fmt: skip
    password_hashes_max: int = _limit(
        32, "count", "password hashes that are being computed or waiting to be computed; beyond: 429",
        "one hash takes about 20 ms and 19 MiB, two run at once, so a login waits at most a third of a second",
    )  # fmt: skip
    login_attempts_per_user: str = _limit(
        "5/minute; 20/hour", "rates",
        "attempts to log in from one address with one user name; the count starts again after a successful login; "
        "beyond: 429",
        "stops a guesser who tries many passwords",
    )  # fmt: skip
    login_attempts_per_name: str = _limit(
        "100/hour", "rates",
        "attempts to log in with one user name, counted over all addresses together, except those from which this "
        "user has logged in before; beyond: 429",
        "stops a guesser who has many addresses",
    )  # fmt: skip
    login_attempts_per_address: str = _limit(
        "60/minute", "rates",
        "attempts to log in from one address with any user name, successful or not; beyond: 429; not for "
        "`trusted_proxies`",
        "stops a guesser who tries one password with many names",
    )  # fmt: skip
    signups_per_address: str = _limit(
        "20/minute; 200/hour", "rates", "new users from one address; beyond: 429; not for `trusted_proxies`",
        "stops a program that fills the store with users",
    )  # fmt: skip

    # Limits of connections
    connections_max: int = _limit(
        60_000, "count", "open connections, streams included; beyond: closed at once",
        "bounds memory; the limit of open files minus 100 (for the database and other files) also applies",
    )  # fmt: skip
    connections_per_address_max: int = _limit(
        2_000, "count",
        "open connections from one address, streams included; beyond: closed at once; not for `trusted_proxies`",
        "prevents one client from using all; the limit is high because many people in one office may share an address",
    )  # fmt: skip
    head_timeout_s: float = _limit(
        10.0, "seconds",
        "how long a client may take to send the headers of a request, counted from the start of the connection, or for "
        "a later request from its first byte; beyond: 408",
        "stops clients that keep connections busy by sending slowly (Slowloris)",
    )  # fmt: skip
    head_bytes_max: int = _limit(
        32 * KIB, "bytes", "the request line and the headers of one request; beyond: 431",
        "bounds memory; nginx has the same limit",
    )  # fmt: skip
    body_rate_min: int = _limit(
        1 * KIB, "bytes/s", "how fast a body must arrive on average, once `head_timeout_s` has passed; slower: 408",
        "stops clients that keep connections busy by sending slowly",
    )  # fmt: skip
    peer_timeout_s: float = _limit(
        60.0, "seconds",
        "how long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); then the connection is closed",
        "a peer that lost its network sends nothing more, and does not close the connection",
    )  # fmt: skip
    backlog: int = _limit(
        16_384, "count", "connections that the kernel completes before they are accepted",
        "after a restart all clients connect at the same moment; the kernel's own limit is net.core.somaxconn",
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
        64 * MIB, "bytes", "all request bodies that are being received, together; beyond: 503 for bodies over 64 KiB",
        "bounds memory when many clients send large bodies at once; small bodies are still accepted",
    )  # fmt: skip
    batch_records_max: int = _limit(
        1_000, "records", "records in one insert; beyond: 413",
        "the transaction of such an insert holds the lock of the log for about 20 ms, and all other inserts wait",
    )  # fmt: skip
    insert_queue_max: int = _limit(
        10_000, "count", "records and cancels that wait for a commit; beyond: 503",
        "they take a few seconds to write; a client would not wait longer than that",
    )  # fmt: skip
    insert_queue_bytes_max: int = _limit(
        64 * MIB, "bytes", "the data of the records that wait for a commit; beyond: 503",
        "bounds memory while the disk is slow",
    )  # fmt: skip
    commit_records_max: int = _limit(
        512, "count",
        "records in one transaction; when it has this many, no more inserts are added; inserts that arrived together "
        "are never divided, so a transaction can be larger",
        "in a larger transaction the first insert would wait too long for the others",
    )  # fmt: skip
    event_names_max: int = _limit(
        100_000, "count", "different event names; beyond: 507",
        "the latest record of each event is in every snapshot, and in memory",
    )  # fmt: skip
    event_names_per_user_max: int = _limit(
        0, "count",
        "events whose latest version one user has inserted, and this user's pending records, together; strangers count "
        "as one user; 0: half of `event_names_max`; beyond: 403",
        "one user must not take all names from the others",
    )  # fmt: skip
    snapshot_bytes_max: int = _limit(
        64 * MIB, "bytes", "the data of the latest records of all events, together; beyond: 507",
        "every node keeps it in memory, and every new subscriber receives it",
    )  # fmt: skip
    snapshot_bytes_per_user_max: int = _limit(
        0, "bytes",
        "the data of the latest versions that one user has inserted, and of this user's pending records, together; "
        "0: half of `snapshot_bytes_max`; beyond: 403",
        "one user must not take all the space from the others",
    )  # fmt: skip
    pending_per_user_max: int = _limit(
        10_000, "records", "pending records of one user; beyond: 403",
        "whoever asks for what is pending makes the server read all of it",
    )  # fmt: skip
    inserts_per_user: str = _limit(
        "", "rates", "records that one user, or one address of strangers, may insert on one node, as in `100/second; "
        "1000/hour`; without it there is no such limit; beyond: 429",
        "the rules may set other rates for each kind of event",
    )  # fmt: skip
    removals_kept: int = _limit(
        100_000, "count",
        "the newest removals of events, which a client that resumes further back than `replay_max` receives; if it "
        "missed more: `$reset`, then the whole snapshot",
        "each of them is kept in memory and in the database, although the event has no state any more",
    )  # fmt: skip
    snapshot_responses_max: int = _limit(
        64, "count",
        "responses of `GET /snapshot` that are being written at the same time, at most a quarter of them for one "
        "address (not for `trusted_proxies`); beyond: 503",
        "until a slow client has read its response, the records in it stay in memory, also if there are newer ones",
    )  # fmt: skip
    long_requests_max: int = _limit(
        64, "count",
        "requests for the state of another time that wait for each other, and the same number for types; beyond: 503",
        "one of them may take a second, and they are carried out one after the other",
    )  # fmt: skip
    long_requests_per_address_max: int = _limit(
        4, "count", "the same of one address (not for `trusted_proxies`); beyond: 503",
        "nobody can take all of the places",
    )  # fmt: skip

    # Limits of streams
    subscribers_max: int = _limit(
        50_000, "count", "open streams; beyond: the new stream ends at once",
        "is less than `connections_max`, so that some connections are left for other requests",
    )  # fmt: skip
    subscribers_per_address_max: int = _limit(
        1_000, "count", "open streams from one address; beyond: the new stream ends at once; not for `trusted_proxies`",
        "prevents one client from using all; the limit is high because many people in one office may share an address",
    )  # fmt: skip
    filters_max: int = _limit(
        100, "count", "`event` parameters of one stream; beyond: 400",
        "each is an entry in the index that is searched for every record",
    )  # fmt: skip
    replay_max: int = _limit(
        10_000, "records",
        "how many missed records a client receives at most when it resumes; if it missed more: `$skipped`, then the "
        "latest record of each event",
        "a page needs the current state soon, rather than every record that led to it",
    )  # fmt: skip
    replay_bytes_max: int = _limit(
        16 * MIB, "bytes", "the data of the missed records that a client receives when it resumes; beyond: `$skipped`",
        "on a slow line, this amount of data takes some seconds",
    )  # fmt: skip
    rights_reset_s: float = _limit(
        5.0, "seconds", "the shortest time from one `$reset` of a stream because of changed rights to the next",
        "somebody who changes rights again and again must not make streams send everything each time",
    )  # fmt: skip
    heartbeat_s: float = _limit(
        15.0, "seconds", "how long a stream is idle before it gets a heartbeat",
        "proxies close idle connections after 30 to 60 s",
    )  # fmt: skip
    subscriber_stall_s: float = _limit(
        30.0, "seconds",
        "how long a client may read nothing although there is something to read; beyond: its stream is closed",
        "a dead client must not keep memory",
    )  # fmt: skip
    subscriber_buffer_bytes: int = _limit(
        64 * KIB, "bytes", "bytes that this process buffers for one stream before the subscriber counts as slow",
        "bounds memory; only with TLS or under another ASGI server; other streams use `subscriber_sndbuf_bytes`",
    )  # fmt: skip
    subscriber_sndbuf_bytes: int = _limit(
        256 * KIB, "bytes", "bytes that the kernel buffers for one stream (SO_SNDBUF)",
        "without it the kernel would buffer up to 4 MB",
    )  # fmt: skip
    turn_bytes_max: int = _limit(
        1 * MIB, "bytes", "live records that are joined into one write to each subscriber",
        "bounds memory; one write for many records costs less than many writes",
    )  # fmt: skip
    retry_ms: int = _limit(
        2_000, "milliseconds", "clients reconnect after a random time between 0.5 and 1.5 times this value",
        "after a restart, clients do not all reconnect at the same moment",
    )  # fmt: skip

    # Intervals and threads within the server
    relay_poll_s: float = _limit(
        5.0, "seconds", "how often a node looks for new records in the store without having been notified",
        "a notification can get lost; its record is then delayed by at most this time",
    )  # fmt: skip
    database_answer_s: float = _limit(
        20.0, "seconds",
        "how long PostgreSQL may take for one answer; beyond: 503, and Broker closes this connection and opens a new "
        "one",
        "the largest answer, the snapshot, takes less time, so a database that takes longer is not working",
    )  # fmt: skip
    scheduler_sleep_max_s: float = _limit(
        30.0, "seconds", "the longest time that the scheduler sleeps",
        "if the clock of the machine is changed, the scheduler notices it after this time at the latest",
    )  # fmt: skip
    reader_threads: int = _limit(
        4, "count", "reads of the store at the same time; further reads wait",
        "each read needs a thread and a connection",
    )  # fmt: skip
    shutdown_grace_s: float = _limit(
        2.0, "seconds", "how long open requests may still take after SIGTERM",
        "a supervisor kills a process that takes too long to stop"
    )  # fmt: skip
