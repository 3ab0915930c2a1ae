"""Copies of an SQLite log: ``broker backup`` while the server runs, and ``broker restore`` into an empty folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from broker.errors import SettingsError
from broker.operations.verify import RESTORE, reading
from broker.store.outage import moved_to
from broker.store.sqlite.file import connect, locked, open_database

_PAGES = 1_000  # of 4 KiB in one step; a writer goes on between two steps

Progress = Callable[[int, int], None]  # so many of so many are done


def backup(source: Path, target: Path, progress: Progress, *, also_moved: bool = False) -> int:
    """A consistent copy of ``source``, in one file, by SQLite's backup API; returns how many records it has. A copy
    of what is damaged is none, nor, unless ``also_moved``, of a log that lives elsewhere now: someone would take it
    every night. Raises SettingsError."""
    advice = f"no backup was made, keep those that you have; `broker verify` tells more; {RESTORE}"
    if not also_moved and (gone := _moved(source, advice)):
        raise SettingsError(f"{gone}. Back that one up; with --moved, what this one had then")
    with new_file(target) as part:
        return _copy(source, part, progress, advice)


def _moved(file: Path, advice: str) -> str:
    """Where to, if it has."""
    with reading(file, advice) as log:
        if not any(name == "moved" for _, name, *_ in log.execute("PRAGMA table_info(state)")):
            return ""  # of an older Broker
        moved, arrived = log.execute("SELECT moved, arrived FROM state").fetchone() or (None, 0)
    return moved_to(str(file.parent), moved, bool(arrived)) if moved is not None else ""


def restore(source: Path, target: Path, progress: Progress) -> int:
    """Puts a copy in place of a log that is not there, and opens a new epoch: what was published after the backup is
    lost, and a page that has seen it must not take the records to come for its continuation. So it may also be the
    backup of a log that has moved. Returns how many records it has. Raises SettingsError."""
    with reading(source):  # before the folder is made
        pass
    with locked(target):
        for file in (target, target.with_name(target.name + "-wal")):
            if file.exists():
                raise SettingsError(f"{file} is there; move it away first, or restore into another --data folder")
        with new_file(target) as part:
            records = _copy(source, part, progress, "nothing was restored; take an older backup")
            with contextlib.closing(open_database(part, also_moved=True)) as log:
                log.execute("BEGIN IMMEDIATE")
                log.execute("UPDATE state SET moved = NULL, arrived = 0")
                open_epoch(log)
                log.execute("COMMIT")
                log.execute("PRAGMA journal_mode = DELETE")
        return records


def _copy(source: Path, part: Path, progress: Progress, advice: str) -> int:
    with reading(source, advice) as log, contextlib.closing(connect(part)) as copy:
        log.execute("BEGIN")  # one moment for all of it: without that, each insert would start it anew
        (records,) = log.execute("SELECT (SELECT count(*) FROM records) FROM state").fetchone() or (0,)
        try:
            log.backup(copy, pages=_PAGES, progress=lambda status, left, total: progress(total - left, total))
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            raise SettingsError(f"cannot write {part}: {error}") from error
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise SettingsError(f"{source} is damaged: {found}; {advice}")
        copy.execute("PRAGMA journal_mode = DELETE")  # no second file beside it
    return int(records)


def open_epoch(log: sqlite3.Connection) -> None:
    """Ends the current epoch at the head, and opens a new one, in the caller's transaction."""
    log.execute("UPDATE epochs SET ended = (SELECT head FROM state) WHERE ended IS NULL")
    log.execute("INSERT INTO epochs VALUES (lower(hex(randomblob(4))), NULL)")


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """An empty file to fill, which has ``target``'s name once it is complete and on disk; if that fails, nothing is
    left. For this user alone: password hashes are in it. Raises SettingsError."""
    try:
        if target.exists():
            raise SettingsError(f"{target} is there already; give another name")
        part = target.with_name(target.name + ".part")
        if not target.parent.is_dir():
            raise SettingsError(f"cannot write {target}: there is no folder {target.parent}; make it first")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        try:
            yield part
            sync(part)
            part.rename(target)
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                part.with_name(part.name + suffix).unlink(missing_ok=True)
        try:
            sync(target.parent)
        except OSError:
            target.unlink()
            raise
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error


def sync(path: Path) -> None:
    """A file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
