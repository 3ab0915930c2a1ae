"""The sources of settings: the variables of the environment, and the lines of a TOML file."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from broker.errors import SettingsError

_PREFIX = "BROKER_"
# These variables are options of commands, not settings: see `broker --help`.
_OTHERS = {"CA", "CONFIG", "PASSWORD", "TOKEN", "TOKEN_FILE", "URL", "VERBOSE"}
# The variables that Kubernetes sets for a Service that is named `broker`, or `broker-something`.
_SERVICE = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)|(SERVICE|PORT)_\w+")


class Given(NamedTuple):
    """The value of a setting, and where it came from, in words for a person."""

    value: Any
    source: str


def read_file(file: Path, source: str) -> dict[str, Given]:
    """The values in a TOML file. ``source`` is the argument or variable that named the file. Raises SettingsError."""
    where = f"settings file {file} ({source})"
    try:
        # TOML is UTF-8, whatever the encoding of the locale is, so the file is read as bytes. Some editors write a byte
        # order mark at its beginning.
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}; give the name of a TOML file that can be read") from None
    try:
        text = content.decode()
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{where}: line {line} is not UTF-8; save the file in that encoding") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f'{where}: {error}; lines are such as heartbeat_s = 10 or host = "::1"') from None
    except RecursionError:
        raise SettingsError(f"{where}: it is nested too deep; settings are lines such as heartbeat_s = 10") from None
    lines = _lines(text)
    return {name: Given(value, f"{file}, line {lines[name]}") for name, value in values.items()}


def _lines(text: str) -> dict[str, int]:
    """The line on which each setting begins, which ``tomllib`` does not report. So lines are parsed one after another,
    and those that only make sense together are joined."""
    found: dict[str, int] = {}
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            names = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:  # the statement continues in the next line
            continue
        for name in names:
            found.setdefault(name, first)
        statement, first = "", number + 1
    return found


def read_variables(
    environment: Mapping[str, str], names: Collection[str], has_database: object = False
) -> tuple[dict[str, Given], list[str]]:
    """The settings among the variables, and warnings for the log. Empty variables are ignored.

    ``names`` are those of all settings; ``has_database`` says whether another source has that one."""
    found: dict[str, Given] = {}
    warnings: list[str] = []
    for name in names:
        for variable in (f"{_PREFIX}{name.upper()}", *(("PORT",) if name == "port" else ())):
            value = environment.get(variable)
            if value is None:
                continue
            if name == "port" and "://" in value:
                warnings.append(
                    f"{variable} is an address and no port: Kubernetes sets it for a Service of that name; it is "
                    "ignored (set enableServiceLinks: false for the pod, or give --port)"
                )
            elif (value.strip() or name == "database") and name not in found:  # an empty database is refused later
                found[name] = Given(value, variable)
    if strange := _strange(environment, names):
        warnings.append(f"ignored, as there are no such settings: {', '.join(strange)}; docs/settings.md has them all")
    if environment.get("DATABASE_URL") and not has_database and "database" not in found:
        warnings.append(
            "DATABASE_URL is set and ignored: it may be meant for another program; BROKER_DATABASE is Broker's"
        )
    return found, warnings


def _strange(environment: Mapping[str, str], names: Collection[str]) -> list[str]:
    """The names of variables that look like settings and are none. Their values are not shown: they may be secrets."""
    known = {name.upper() for name in names} | _OTHERS
    found = []
    for variable in sorted(environment):
        rest = variable.removeprefix(_PREFIX)
        if rest == variable or rest in known or not environment[variable] or _SERVICE.fullmatch(rest):
            continue
        if rest.endswith("_PORT") and "://" in environment[variable]:  # Kubernetes sets these for a Service as well
            continue
        near = nearest(rest.lower(), names)
        found.append(f"{variable[:100]}{near and f' (did you mean {_PREFIX}{near.upper()}?)'}")
    return found


def nearest(name: str, names: Collection[str]) -> str:
    """The name that was probably meant; an empty text if no name is similar."""
    return next(iter(get_close_matches(name.lower().replace("-", "_"), names, 1, 0.7)), "")
