"""Values that people type, that files contain, and that messages show."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import click

from broker.records import make_uuid, read_time_parameter

_RELATIVE = re.compile(r"(?:now|([+-][0-9]{1,9})([smhd]))\Z")
_CONTROLS = re.compile("[\x7f-\x9f]")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_moment(text: str, name: str) -> str:
    """Returns a time as a JSON number of seconds since 1970. It may be relative to now: ``now``, ``+90s``, ``-10m``,
    ``+2h``, ``-1d``. Raises BadRequest. ``name`` is what the message calls it."""
    if match := _RELATIVE.match(text):
        return f"{time.time() + int(match[1] or 0) * _UNITS[match[2] or 's']:.3f}"
    return read_time_parameter(text, name)[0]


def without_mark(text: str) -> str:
    """Removes the byte order mark that some programs write, and which is not part of the JSON (RFC 8259, section
    8.1)."""
    return text.removeprefix("\ufeff")


def check_json(text: str, name: str) -> Any:
    """Refuses what is not JSON. ``name`` is what the message calls it."""
    try:
        return json.loads(text, parse_int=str, parse_float=str)  # as text, because int() refuses very long numbers
    except RecursionError:
        raise click.ClickException(f"{name} is nested too deep") from None
    except ValueError as error:
        raise click.ClickException(
            f"{name} is not JSON: {error}; a string needs its own quotes, as in '\"text\"'"
        ) from None


def print_json(text: str) -> None:
    """Prints JSON on standard output, with escapes for the control characters that JSON permits in a string as they are
    (DEL and C1): in data that others have sent, a terminal would obey them."""
    click.echo(_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def amount(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def new_uuid() -> str:
    return str(make_uuid(time.time_ns() // 1_000_000))
