"""Every setting once: name, type, unit, default, reason. Read from arguments, ``BROKER_<NAME>``, or a TOML file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from broker.addresses import check_networks, within
from broker.errors import SettingsError
from broker.origins import parse_origin
from broker.rates import parse_rates
from broker.setting_sources import Given, nearest, read_file, read_variables
from broker.setting_values import check_database, check_header, check_host, check_range, convert, expected, shown

logger = logging.getLogger("broker.settings")

KIB, MIB = 1024, 1024 * 1024


def _setting(default: Any, unit: str, reason: str, **more: Any) -> Any:
    return field(default=default, metadata={"unit": unit, "reason": reason}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of Broker's settings; ``docs/settings.md`` is made from this table."""

    # Where it listens and what it keeps
    host: str = _setting(
        "127.0.0.1", "address or name", "only this machine, until you say otherwise; of a name, all addresses"
    )
    port: int = _setting(8080, "port", "`PORT` is read too; 0 takes a free one")
    data: Path = _setting(Path("./tmp"), "folder", "holds `broker.db` and the token secret")
    database: str = _setting(
        "", "URL", "`postgresql://user@host/name`: one log for many nodes; none: SQLite in `data`", repr=False
    )
    workers: int = _setting(
        1, "count", "processes behind one port, one for each core; more than one need `database`; limits hold for each"
    )
    origin: tuple[str, ...] = _setting(
        (),
        "origins",
        "web pages that may call (CORS): `http://localhost:3000`, or `*`; comma-separated in the environment",
    )
    allow_header: tuple[str, ...] = _setting(
        (), "header names", "that pages may send beyond those that Broker knows (CORS): `X-Requested-With, baggage`"
    )
    tls_certificate: Path | None = _setting(
        None, "PEM file", "serves https itself, without a proxy in front; SIGHUP reads it anew"
    )
    tls_key: Path | None = _setting(None, "PEM file", "the key of `tls_certificate`, without a pass phrase")

    # Users
    token_secret: str = _setting(
        "", "text", "signs the tokens; made on first start if not given; 32 bytes or more", repr=False
    )
    token_ttl_s: int = _setting(86_400, "seconds", "a working day and a night; then the page logs in again")
    signup: bool = _setting(True, "yes/no", "`POST /users` is open to everybody; no answers 403")
    events_public: bool = _setting(True, "yes/no", "`GET /events` needs no token (a plain EventSource cannot send one)")
    user_age_max_s: float = _setting(5.0, "seconds", "how old the known state of a token's user may be")
    password_hashes_max: int = _setting(
        32, "count", "hashes under way or waiting (19 MiB, some 20 ms each); beyond: 429 or 503"
    )
    metrics_token: str = _setting("", "text", "lets others than this machine read `/metrics`", repr=False)

    login_attempts_per_user: str = _setting(
        "5/minute; 20/hour", "rates", "from one address for one user name, until one is right; beyond: 429"
    )
    login_attempts_per_name: str = _setting(
        "100/hour", "rates", "the same from all addresses: a guesser who has many of them"
    )
    login_attempts_per_address: str = _setting(
        "60/minute", "rates", "from one address, right or wrong, for all names; not for `trusted_proxies`"
    )
    signups_per_address: str = _setting(
        "20/minute; 200/hour", "rates", "new users from one address; not for `trusted_proxies`; beyond: 429"
    )

    # Connections
    trusted_proxies: tuple[str, ...] = _setting(
        ("127.0.0.1", "::1"),
        "addresses or networks",
        "whose `X-Forwarded-For` is believed; they have no limits for each address themselves; `none` trusts nobody",
    )
    connections_max: int = _setting(
        60_000, "count", "open connections, streams too; also 100 below the limit of open files; beyond: closed at once"
    )
    connections_per_address_max: int = _setting(
        2_000, "count", "the same from one address; an office may share one; not for `trusted_proxies`"
    )
    head_timeout_s: float = _setting(
        10.0, "seconds", "from the connection, or the first byte of another request, to the end of its head: then 408"
    )
    head_bytes_max: int = _setting(32 * KIB, "bytes", "of a request's head; nginx takes as much; beyond: 431")
    body_rate_min: int = _setting(
        1 * KIB, "bytes/s", "a body that comes slower, after `head_timeout_s`, is given up: 408"
    )
    peer_timeout_s: float = _setting(
        60.0, "seconds", "what is sent and not acknowledged for so long: the peer has vanished (TCP_USER_TIMEOUT)"
    )

    # Inserts
    inserts_waiting_per_user_max: int = _setting(
        5_000, "records", "of one user, waiting for a commit: half of `insert_queue_max`; beyond: 429"
    )
    body_bytes_max: int = _setting(1 * MIB, "bytes", "a request's body; a record is sent whole to every subscriber")
    bodies_bytes_max: int = _setting(
        64 * MIB, "bytes", "of bodies that are still coming, all together; beyond: 503 for those over 64 KiB"
    )
    batch_records_max: int = _setting(
        1_000, "records", "in one insert: its transaction holds the lock, some 20 ms, and others wait; beyond: 413"
    )
    insert_queue_max: int = _setting(
        10_000, "count", "inserts and cancels waiting for a commit: some seconds of work; beyond: 503"
    )
    insert_queue_bytes_max: int = _setting(64 * MIB, "bytes", "the memory of those")
    commit_records_max: int = _setting(
        512, "count", "a transaction takes no more when it has these; what came in one turn of the loop is not divided"
    )
    event_names_max: int = _setting(100_000, "count", "different events; each is in every snapshot; beyond: 507")
    snapshot_bytes_max: int = _setting(
        64 * MIB, "bytes", "data of the latest of every event, kept in memory; beyond: 507"
    )

    # Streams
    subscribers_max: int = _setting(
        50_000, "count", "open streams, below the limit of open files; beyond: a stream that ends at once"
    )
    subscribers_per_address_max: int = _setting(
        1_000, "count", "the same from one address; an office may share one; not for `trusted_proxies`"
    )
    filters_max: int = _setting(100, "count", "`?event=` on one stream; each costs on every match")
    replay_max: int = _setting(10_000, "records", "a resume that far behind gets every record; further: `$skipped`")
    replay_bytes_max: int = _setting(16 * MIB, "bytes", "the same bound in data: some seconds on a slow line")
    heartbeat_s: float = _setting(15.0, "seconds", "idle streams hear this often; proxies cut at 30 to 60 s")
    subscriber_stall_s: float = _setting(30.0, "seconds", "a reader that takes nothing for this long is cut off")
    subscriber_buffer_bytes: int = _setting(
        64 * KIB, "bytes", "the same before the kernel, under TLS and other servers; plain streams have none"
    )
    subscriber_sndbuf_bytes: int = _setting(
        256 * KIB, "bytes", "the kernel's buffer of one stream (SO_SNDBUF); it grows to 4 MB else"
    )
    turn_bytes_max: int = _setting(1 * MIB, "bytes", "live records joined into one write a subscriber")
    retry_ms: int = _setting(
        2_000, "milliseconds", "reconnect after half to one and a half of this, at random: no stampede"
    )

    # Machinery
    relay_poll_s: float = _setting(5.0, "seconds", "looks for records whose wake-up got lost")
    database_answer_s: float = _setting(
        20.0, "seconds", "an answer of PostgreSQL takes no longer, also that with the snapshot; else it hangs: 503"
    )
    scheduler_sleep_max_s: float = _setting(30.0, "seconds", "a stepped clock is seen after this at the latest")
    reader_threads: int = _setting(4, "count", "reads of the log at a time")
    shutdown_grace_s: float = _setting(2.0, "seconds", "requests under way get this long after SIGTERM")
    backlog: int = _setting(2_048, "count", "connections waiting to be accepted, for a reconnect storm")

    # No setting, but where each value came from that is no default: an argument, a variable, a line of a file.
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for each in TABLE:
            object.__setattr__(self, each.name, self._checked(each, getattr(self, each.name)))
        self._check_each()
        self._check_together()

    def named(self, name: str) -> str:
        """A setting in a refusal: its name, and where its value came from."""
        given = getattr(self, name) != _KNOWN[name].default
        return f"{name} ({self.sources.get(name, 'argument' if given else 'default')})"

    def trusts(self, address: str) -> bool:
        """Whether it is one of the ``trusted_proxies``."""
        return within(address, self.trusted_proxies)

    def _checked(self, setting: Field[Any], value: Any) -> Any:
        try:
            converted = convert(setting, value)
            check_range(setting, converted)
        except ValueError as error:
            given = f"{shown(value)}: " if setting.repr else ""
            raise SettingsError(f"{self.named(setting.name)}: {given}{str(error) or expected(setting)}") from None
        return converted

    def _check_each(self) -> None:
        self._check("host", check_host, self.host)
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        self._check("database", check_database, self.database)
        origins = [self._check("origin", parse_origin, origin) for origin in self.origin]
        object.__setattr__(self, "origin", tuple(dict.fromkeys(origins)))
        for header in self.allow_header:
            self._check("allow_header", check_header, header)
        for each in TABLE:
            if each.metadata["unit"] == "rates":
                self._check(each.name, parse_rates, getattr(self, each.name))
        check_networks(self.named("trusted_proxies"), self.trusted_proxies)
        if self.token_secret and len(self.token_secret.encode()) < 32:
            raise SettingsError(
                f"{self.named('token_secret')}: shorter than 32 bytes; give a longer one, or none to have one made"
            )

    def _check(self, name: str, check: Callable[[str], Any], value: str) -> Any:
        """What ``check`` returns; its ValueError is told as that of the setting."""
        try:
            return check(value)
        except ValueError as error:
            given = f"{shown(value)}: " if _KNOWN[name].repr else ""
            raise SettingsError(f"{self.named(name)}: {given}{error}") from None

    def _check_together(self) -> None:
        if self.workers > 1 and not self.database:
            raise SettingsError(
                f"{self.named('workers')}: SQLite has one process at a time, not {self.workers}; move the log to "
                f"PostgreSQL (broker copy --from {self.data} --to postgresql://…), and give that as the database: "
                "docs/scaling.md"
            )
        for name in ("insert_queue_bytes_max", "bodies_bytes_max"):
            self._check_not_less(name, "body_bytes_max", "the largest inserts never fit")
        self._check_not_less("insert_queue_max", "batch_records_max", "the largest batches never fit")
        for name, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise SettingsError(f"{self.named(name)}: it goes together with {other}; give both or none")

    def _check_not_less(self, name: str, other: str, why: str) -> None:
        large, small = getattr(self, name), getattr(self, other)
        if large < small:
            raise SettingsError(
                f"{self.named(name)} is less than {self.named(other)}, {large} and {small}: {why}; "
                "raise the one or lower the other"
            )


TABLE: tuple[Field[Any], ...] = tuple(each for each in fields(Settings) if each.metadata)  # without ``sources``
_KNOWN = {each.name: each for each in TABLE}
# A variable that is there and empty is mostly a mistake; here another log would be served, and an empty one.
_EMPTY = {"database": "give postgresql://user@host/name; for SQLite in data, unset the variable"}


def read_settings(
    arguments: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
    file_source: str = "argument",
) -> Settings:
    """The settings from ``arguments`` (None: not given), else the environment, else ``file`` (TOML), else defaults.

    What is strange in the environment is logged. ``file_source``: what named the file. Raises SettingsError naming the
    setting, and where its value came from."""
    found = read_file(file, file_source) if file is not None else {}
    variables, warnings = read_variables(environment, _KNOWN, "database" in found or arguments.get("database"))
    found |= variables
    found |= {name: Given(value, "argument") for name, value in arguments.items() if value is not None}
    if unknown := sorted(found.keys() - _KNOWN.keys()):
        raise SettingsError(
            f"unknown settings: {', '.join(_unknown(name, found[name].source) for name in unknown)}; "
            "docs/settings.md has them all"
        )
    for name, (value, source) in found.items():
        if _is_empty(value) and name != "trusted_proxies":  # of which a list without any makes sense
            raise SettingsError(
                f"{name} ({source}): empty; {_EMPTY.get(name) or expected(_KNOWN[name])}, or leave it out"
            )
    settings = Settings(
        **{name: value for name, (value, _) in found.items()},
        sources={name: source for name, (_, source) in found.items()},
    )
    for warning in warnings:
        logger.warning("%s", warning)
    return settings


def _is_empty(value: Any) -> bool:
    """As of a variable of the shell that is not set."""
    parts = [value] if isinstance(value, str) else value
    return (
        isinstance(parts, list | tuple)
        and bool(parts)
        and all(isinstance(part, str) and not part.strip() for part in parts)
    )


def _unknown(name: str, source: str) -> str:
    near = nearest(name, _KNOWN)
    # What is no name may be half of a URL, with a password: `--set postgresql://ada:...@host/name?sslmode=require`.
    shown_name = name[:100] if name.replace("-", "_").isidentifier() else "what is no name"
    return f"{shown_name} ({source}{near and f'; did you mean {near}?'})"
