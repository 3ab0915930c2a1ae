"""Copies of an SQLite log: ``broker backup`` while the server runs, and ``broker restore`` into an empty folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from broker.errors import SettingsError
from broker.store.database import connect, open_database

_PAGES = 1_000  # of 4 KiB in one step; a writer goes on between two steps

Progress = Callable[[int, int], None]  # so many of so many are done


def backup(source: Path, target: Path, progress: Progress) -> None:
    """A consistent copy of ``source``, in one file, by SQLite's backup API. Raises SettingsError."""
    if target.exists():
        raise SettingsError(f"{target} is there already; give another name")
    if not source.is_file():
        raise SettingsError(f"{source} is not there; give the server's --data folder")
    part = target.with_name(target.name + ".part")
    with _clear_errors(f"cannot back {source} up to {target}"), _unfinished(part):
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))  # password hashes are in it
        with contextlib.closing(connect(source)) as log, contextlib.closing(connect(part)) as copy:
            log.execute("PRAGMA query_only = ON")
            log.execute("BEGIN")  # one moment for all of it: without that, each insert would start it anew
            log.execute("SELECT * FROM state").fetchone()
            log.backup(copy, pages=_PAGES, progress=lambda status, left, total: progress(total - left, total))
            copy.execute("PRAGMA journal_mode = DELETE")  # no second file beside it
        _sync(part)
        part.rename(target)
        _sync(target.parent)


def restore(source: Path, target: Path, progress: Progress) -> None:
    """Puts a copy in place of a log that is not there, and opens a new epoch: what was published after the backup is
    lost, and a page that has seen it must not take the records to come for its continuation. Raises SettingsError."""
    for file in (target, target.with_name(target.name + "-wal")):
        if file.exists():
            raise SettingsError(f"{file} is there; move it away first, or restore into another --data folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".restored")
    with _clear_errors(f"cannot restore {source} to {target}"), _unfinished(part):
        backup(source, part, progress)
        with contextlib.closing(open_database(part)) as log:
            open_epoch(log)
            log.execute("PRAGMA journal_mode = DELETE")
        _sync(part)
        part.rename(target)
        _sync(target.parent)


def open_epoch(log: sqlite3.Connection) -> None:
    """Ends the current epoch at the head, and opens a new one."""
    log.execute("BEGIN IMMEDIATE")
    log.execute("UPDATE epochs SET ended = (SELECT head FROM state) WHERE ended IS NULL")
    log.execute("INSERT INTO epochs VALUES (lower(hex(randomblob(4))), NULL)")
    log.execute("COMMIT")


@contextlib.contextmanager
def _unfinished(part: Path) -> Iterator[None]:
    """Leaves no half file behind."""
    try:
        yield
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _clear_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"{what}: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
