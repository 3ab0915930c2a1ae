"""What SQLite's errors mean, and what an operator can do about each: one table for all code that uses an SQLite
file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from enum import Enum, auto

from broker.errors import SettingsError
from broker.store.outage import FULL_ADVICE


class Meaning(Enum):
    """What an error says about the file."""

    DAMAGED = auto()
    FULL = auto()
    # A write failed. The reason may also be missing space, if a quota or a limit of the file size is exhausted.
    NOT_WRITTEN = auto()
    LOCKED = auto()
    READ_ONLY = auto()
    NOT_OPENED = auto()
    OTHER = auto()


# The keys are SQLite's primary result codes (https://www.sqlite.org/rescode.html).
_MEANINGS = {
    sqlite3.SQLITE_CORRUPT: Meaning.DAMAGED,
    sqlite3.SQLITE_NOTADB: Meaning.DAMAGED,
    sqlite3.SQLITE_FULL: Meaning.FULL,
    sqlite3.SQLITE_IOERR: Meaning.NOT_WRITTEN,
    sqlite3.SQLITE_BUSY: Meaning.LOCKED,
    sqlite3.SQLITE_READONLY: Meaning.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Meaning.NOT_OPENED,
    sqlite3.SQLITE_PERM: Meaning.NOT_OPENED,
    sqlite3.SQLITE_AUTH: Meaning.NOT_OPENED,
}
# The advice for the operator of a running server. An error that has no advice here may pass by itself.
_ADVICE = {
    Meaning.DAMAGED: "stop Broker, check the log with `broker verify`, and restore your last backup",
    Meaning.FULL: FULL_ADVICE,
    Meaning.LOCKED: "another program holds the database's lock: close that program",
    Meaning.READ_ONLY: "make the folder and its files writable for this user",
}
_DEFAULT_ADVICE = "inserts continue by themselves when the database can be written to again"


def meaning_of(error: Exception) -> Meaning:
    """Returns what an error means. An error that does not come from SQLite has the meaning ``OTHER``."""
    if not isinstance(error, sqlite3.Error):
        return Meaning.OTHER
    # The lowest eight bits are the primary result code, and the upper bits give details. Errors that Python's sqlite3
    # module raises by itself have no code at all.
    code = getattr(error, "sqlite_errorcode", None) or 0
    return _MEANINGS.get(code & 0xFF, Meaning.OTHER)


def advice_for(meaning: Meaning) -> str:
    """Returns what the operator of a running server can do."""
    return _ADVICE.get(meaning, _DEFAULT_ADVICE)


def damage(text: str) -> sqlite3.DatabaseError:
    """Returns an error that means the same as SQLite's own error about a damaged file. It is for damage that only
    Broker can recognise."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


@contextlib.contextmanager
def refusing(action: str, advice: str = "", *, if_damaged: str = "") -> Iterator[None]:
    """For what an operator asks for. It replaces SQLite's errors and the system's errors by a SettingsError with the
    message "cannot <action>: <reason>; <advice>". ``if_damaged`` is the advice for a damaged file."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if if_damaged and meaning_of(error) is Meaning.DAMAGED:
            raise SettingsError(f"cannot {action}: it is damaged ({error}); {if_damaged}") from error
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"cannot {action}: {reason}{advice and f'; {advice}'}") from error
