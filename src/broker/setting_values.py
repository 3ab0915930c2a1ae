"""Converts what was given for a setting to its type, and checks it. Every refusal is a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import Field
from pathlib import Path
from typing import Any

_SECONDS_MAX = 1_000_000  # twelve days; timeouts of sockets are limited to 24 days
_WHOLE_MAX = 2**40  # a terabyte, if these are bytes; SQLite is limited to 2**63
_C_INT_MAX = 2**31 - 1
_HIGHEST = {"port": 65_535, "ticket_ttl_s": 3_600, "subscriber_sndbuf_bytes": _C_INT_MAX, "backlog": _C_INT_MAX}
_MAY_BE_0 = ("port", "event_names_per_user_max", "snapshot_bytes_per_user_max")
_KINDS = {int: "a whole number, ", float: "a number, "}
_QUOTES = "\"'`"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def expected(setting: Field[Any]) -> str:
    """The message for a value that is not of the setting's type."""
    kind: type[Any] = type(setting.default)
    return f"expected {_KINDS.get(kind, '')}{setting.metadata['unit']}"


def shown(value: object) -> str:
    """A value as messages show it, which may go into a log: at most 100 characters, and of a URL without all that is
    before the @, because that may be a password."""
    return repr(re.sub("^.*@", "…@", str(value), flags=re.DOTALL)[:100])


def convert(setting: Field[Any], value: Any) -> Any:
    """The value in the type of the setting's default, and within its range. Raises ValueError, without a message if the
    type is wrong."""
    default: Any = setting.default
    if isinstance(value, str):
        # A secret that was read from a file mostly ends with a line break. The name of a path may end with a blank.
        value = value.rstrip("\r\n") if isinstance(default, Path | None) else value.strip()
        check_unquoted(value)
    if isinstance(default, tuple):
        return tuple(_parts(value))
    if isinstance(default, Path | None):
        return default if value is None or value == "" else to_path(value)
    if isinstance(default, bool):
        return _truth(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    try:
        converted = type(default)(value)
    except (ValueError, OverflowError):
        raise ValueError from None
    if isinstance(value, float) and converted != value:  # int() has cut a fraction off
        raise ValueError
    if isinstance(converted, str):
        _check_text(converted, any_character=setting.name == "token_secret")
    check_range(setting, converted)
    return converted


def check_unquoted(text: str) -> None:
    """Raises ValueError for a text in quotation marks."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        raise ValueError("it stands in quotation marks; leave them out (the env file of a container keeps them)")


def to_path(value: object) -> Path:
    """Raises ValueError for what is not a path."""
    if not isinstance(value, str | Path):
        raise ValueError
    text = str(value).rstrip("\r\n")
    check_unquoted(text)
    if re.match(r"[a-z][a-z0-9+.-]+:/", text):  # Broker would create a folder whose name contains the password
        raise ValueError("a URL is no path; that of PostgreSQL is for the setting database")
    if "\0" in text:
        raise ValueError("a path has no zero bytes")
    return Path(text)


def _parts(value: Any) -> Iterable[str]:
    """The texts of a list. Outside of TOML and Python a list is one text with commas; ``none`` is the empty list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected a list of texts")
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    for part in parts:
        if part[0] in f"[{_QUOTES}" or part[-1] in _QUOTES:
            raise ValueError("a list is written without brackets and quotation marks, with commas: a, b")
        if "@" in part:
            raise ValueError("there is an @ within it; leave out user name and password")
        _check_text(part)
    return () if parts == ["none"] else parts


def _truth(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    text = str(value).lower()
    if not isinstance(value, str | bool) or text not in words:
        raise ValueError
    return words[text]


def _check_text(text: str, *, any_character: bool = False) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None
    if not any_character and re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("it has a line break or another control character within; remove that")


def check_range(setting: Field[Any], value: Any) -> None:
    """Raises ValueError for a number that is too small or too large."""
    if isinstance(value, int) and not isinstance(value, bool):
        lowest, highest = int(setting.name not in _MAY_BE_0), _HIGHEST.get(setting.name, _WHOLE_MAX)
        if value < lowest:
            raise ValueError(f"too small; give {lowest} or more")
        if value > highest:
            raise ValueError(f"too large; give {highest:,} at most")
    if isinstance(value, float) and not 0 < value <= _SECONDS_MAX:
        raise ValueError(f"give more than 0 {setting.metadata['unit']}, and {_SECONDS_MAX:,} at most")


def check_host(host: str) -> None:
    """Raises ValueError. So do the functions below."""
    if "/" in host:
        raise ValueError("give a name or an address alone, such as 127.0.0.1, without http:// and path")
    if host.count(":") == 1 or re.search(r"\]:\d*$", host):
        raise ValueError("give a name or an address alone, such as 127.0.0.1; the port is a setting of its own")
    if host == "*":
        raise ValueError("give 0.0.0.0 for all addresses of this machine, or :: for those of IPv6, too")


def check_database(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in ("postgresql", "postgres"):
        raise ValueError("that is no URL of PostgreSQL; give postgresql://user@host/name")


def check_header(name: str) -> None:
    if name == "*":
        raise ValueError("give each header by its name: for browsers, * does not include Authorization")
    if not _TOKEN.fullmatch(name):
        raise ValueError("that is no name of a header; give names such as X-Requested-With")


def check_console(value: str) -> None:
    if value not in ("auto", "yes", "no"):
        raise ValueError


def check_console_name(name: str) -> None:
    if len(name) > 64 or not name.isprintable():  # what turns the direction of text is not printable, either
        raise ValueError("give 64 characters or less, without invisible ones")
