"""Settings with the checks of their values, and how they are read: from arguments, ``BROKER_<NAME>`` or a TOML file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from broker.addresses import check_networks, within
from broker.errors import SettingsError
from broker.origins import LOCAL_ORIGINS, parse_origin
from broker.rates import parse_rates
from broker.setting_sources import Given, nearest, read_file, read_variables
from broker.setting_table import KIB as KIB  # also for those who import the settings
from broker.setting_table import MIB as MIB
from broker.setting_table import SettingTable
from broker.setting_values import (
    check_console,
    check_console_name,
    check_database,
    check_header,
    check_host,
    convert,
    expected,
    shown,
)

logger = logging.getLogger("broker.settings")

TABLE: tuple[Field[Any], ...] = fields(SettingTable)
_KNOWN = {setting.name: setting for setting in TABLE}
# An empty variable is usually a mistake, and is ignored, as if it were not set. But if an empty BROKER_DATABASE were
# ignored, Broker would serve the SQLite log in the folder ``data``, and not the operator's log in PostgreSQL. So it is
# refused. The text is a part of the message "database (BROKER_DATABASE): empty; ..., or leave it out".
_EMPTY = {"database": "give postgresql://user@host/name; to keep the log in SQLite instead, unset the variable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SettingTable):
    """Values for the whole table; those that are not given have their defaults. Raises SettingsError.

    ``sources`` is no setting: it says where each value came from that is no default, an argument, a variable or a line
    of a file, for refusals."""

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for setting in TABLE:
            value = self._check(setting.name, partial(convert, setting), getattr(self, setting.name))
            object.__setattr__(self, setting.name, value)
        self._check_each()
        self._check_together()

    def named(self, name: str) -> str:
        """What a refusal calls a setting: its name, and where its value came from."""
        changed = getattr(self, name) != _KNOWN[name].default
        return f"{name} ({self.sources.get(name, 'argument' if changed else 'default')})"

    @property
    def credential_origins(self) -> tuple[str, ...]:
        """The origins whose pages may send cookies: those that the operator has listed. ``*`` lists none, and neither
        does ``broker serve``, which allows the pages of this machine if no origin was given."""
        given = "origin" in self.sources or self.origin != LOCAL_ORIGINS
        return self.origin if given and "*" not in self.origin else ()

    def trusts(self, address: str) -> bool:
        """Whether the address belongs to one of the ``trusted_proxies``."""
        return within(address, self.trusted_proxies)

    def _check_each(self) -> None:
        self._check("host", check_host, self.host)
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        self._check("database", check_database, self.database)
        self._check("console", check_console, self.console)
        self._check("console_name", check_console_name, self.console_name)
        origins = [self._check("origin", parse_origin, origin) for origin in self.origin]
        object.__setattr__(self, "origin", tuple(dict.fromkeys(origins)))
        for header in self.allow_header:
            self._check("allow_header", check_header, header)
        for setting in TABLE:
            value = getattr(self, setting.name)
            if setting.metadata["unit"] == "rates" and value != setting.default:  # a default may be no rate at all
                self._check(setting.name, parse_rates, value)
        check_networks(self.named("trusted_proxies"), self.trusted_proxies)
        if self.token_secret and len(self.token_secret.encode()) < 32:
            raise SettingsError(
                f"{self.named('token_secret')}: shorter than 32 bytes; give a longer one, or none to have one made"
            )

    def _check(self, name: str, check: Callable[[Any], Any], value: Any) -> Any:
        """Returns what ``check`` returns, and raises its ValueError as a SettingsError that names the setting."""
        setting = _KNOWN[name]
        try:
            return check(value)
        except ValueError as error:
            prefix = f"{shown(value)}: " if setting.repr else ""  # never a secret
            raise SettingsError(f"{self.named(name)}: {prefix}{str(error) or expected(setting)}") from None

    def _check_together(self) -> None:
        """The settings that restrict each other."""
        if self.workers > 1 and not self.database:
            raise SettingsError(
                f"{self.named('workers')}: SQLite has one process at a time, not {self.workers}; move the log to "
                f"PostgreSQL (broker move --from {self.data} --to postgresql://…), and give that as the database: "
                "docs/scaling.md"
            )
        for name in ("insert_queue_bytes_max", "bodies_bytes_max"):
            self._check_not_less(name, "body_bytes_max", "the largest inserts never fit")
        self._check_not_less("insert_queue_max", "batch_records_max", "the largest batches never fit")
        self._check_not_less("inserts_waiting_per_user_max", "batch_records_max", "the largest batches never fit")
        self._check_not_less("session_max_s", "token_ttl_s", "a session would end before its first token expires")
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


def read_settings(
    arguments: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
    file_source: str = "argument",
) -> Settings:
    """Reads each setting from the first of these that has it: ``arguments`` (None means not given), the environment,
    ``file`` (TOML), the defaults. ``file_source`` is the argument or variable that named the file, for refusals.

    Variables that look like settings and are none are logged. Raises SettingsError naming the setting, and where its
    value came from."""
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
        if _is_empty(value) and name != "trusted_proxies":  # an empty list of proxies makes sense
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
    """Whether the value has no content, as when a script passes a shell variable that is not set."""
    parts = [value] if isinstance(value, str) else value
    return (
        isinstance(parts, list | tuple)
        and bool(parts)
        and all(isinstance(part, str) and not part.strip() for part in parts)
    )


def _unknown(name: str, source: str) -> str:
    near = nearest(name, _KNOWN)
    # What is not a name is not shown. It may be half of a URL with a password, as in
    # `--set postgresql://ada:...@host/name?sslmode=require`.
    shown_name = name[:100] if name.replace("-", "_").isidentifier() else "what is no name"
    return f"{shown_name} ({source}{near and f'; did you mean {near}?'})"
