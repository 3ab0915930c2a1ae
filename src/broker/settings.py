"""Every setting once: name, type, unit, default, reason. Read from arguments, ``BROKER_<NAME>``, or a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from broker.addresses import check_networks, within
from broker.errors import SettingsError

KIB, MIB = 1024, 1024 * 1024
_SECONDS_MAX = 1_000_000  # twelve days; sockets take no more than 24


def _setting(default: Any, unit: str, reason: str, **more: Any) -> Any:
    return field(default=default, metadata={"unit": unit, "reason": reason}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of Broker's settings; ``docs/settings.md`` is made from this table."""

    # Where it listens and what it keeps
    host: str = _setting("127.0.0.1", "address", "only this machine, until you say otherwise")
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
    tls_certificate: Path | None = _setting(None, "PEM file", "serves https itself, without a proxy in front")
    tls_key: Path | None = _setting(None, "PEM file", "the key of `tls_certificate`")

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
        "whose `X-Forwarded-For` is believed; they have no limits for each address themselves",
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

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            lowest = 0 if each.name == "port" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < lowest:
                raise SettingsError(f"{each.name}: {value} is too small; give {lowest} or more")
            if isinstance(value, float) and not 0 < value <= _SECONDS_MAX:
                raise SettingsError(
                    f"{each.name}: {value:g} {each.metadata['unit']}; give more than 0, and {_SECONDS_MAX:,} at most"
                )
        if self.port > 65_535:
            raise SettingsError(f"port: {self.port} is no port; give 0 to 65535")
        if self.workers > 1 and not self.database:
            raise SettingsError(
                f"workers: SQLite has one process at a time, not {self.workers}; move the log to PostgreSQL "
                f"(broker copy --from {self.data} --to postgresql://…), and give that as the database: docs/scaling.md"
            )
        if self.subscriber_sndbuf_bytes >= 2**31:
            raise SettingsError("subscriber_sndbuf_bytes is more than a socket can have; give less than 2147483648")
        for name in ("insert_queue_bytes_max", "bodies_bytes_max"):
            if getattr(self, name) < self.body_bytes_max:
                raise SettingsError(f"{name} is less than body_bytes_max: the largest inserts never fit")
        if self.insert_queue_max < self.batch_records_max:
            raise SettingsError("insert_queue_max is less than batch_records_max: the largest batches never fit")
        check_networks("trusted_proxies", self.trusted_proxies)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key go together; give both or none")
        for origin in self.origin:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2):
                raise SettingsError(f"origin: {origin!r}; give scheme://host:port without a path, or *")
        if self.token_secret and len(self.token_secret.encode()) < 32:
            raise SettingsError("token_secret: shorter than 32 bytes; give a longer one, or none to have one made")

    def trusts(self, address: str) -> bool:
        """Whether it is one of the ``trusted_proxies``."""
        return within(address, self.trusted_proxies)


def read_settings(
    arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """The settings from ``arguments`` (None: not given), else the environment, else ``file`` (TOML), else defaults.

    Raises SettingsError naming the setting."""
    known = {each.name: each for each in fields(Settings)}
    values: dict[str, Any] = {}
    if file is not None:
        values |= _read_file(file)
    if "PORT" in environment:
        values["port"] = environment["PORT"]
    values |= {name: text for name in known if (text := environment.get(f"BROKER_{name.upper()}")) is not None}
    values |= {name: value for name, value in arguments.items() if value is not None}
    if values.get("database") == "":  # a variable that is not set; another log, and an empty one, would be served
        raise SettingsError("database: empty; give postgresql://user@host/name, or leave it out, for SQLite in data")
    if unknown := values.keys() - known.keys():
        raise SettingsError(f"unknown settings: {', '.join(sorted(unknown))}; docs/settings.md has them all")
    return Settings(**{name: _convert(known[name], value) for name, value in values.items()})


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {file}: {error}") from None


_KINDS = {int: "a whole number, ", float: "a number, "}


def _convert(setting: Field[Any], value: Any) -> Any:
    default = setting.default
    assert default is not MISSING
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else _truth(str(value))
        if isinstance(default, tuple):
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(part.strip() for part in parts if part.strip())
        if default is None or isinstance(default, Path):
            return Path(value) if value != "" else default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        converted = type(default)(value)
        if isinstance(value, float) and converted != value:  # int() would cut the fraction off
            raise ValueError
        return converted
    except (ValueError, TypeError):
        shown = "" if not setting.repr else f"{value!r}: "
        raise SettingsError(
            f"{setting.name}: {shown}expected {_KINDS.get(type(default), '')}{setting.metadata['unit']}"
        ) from None


def _truth(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]
