"""Copies of an SQLite log: ``broker backup`` while the server runs, and ``broker restore`` into an empty folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from broker.errors import BadRequest, SettingsError
from broker.names import RULES_EVENT
from broker.operations.verify import RESTORE, reading
from broker.rules.rights import read_rules
from broker.store.confirmation import mark
from broker.store.outage import relocated_to
from broker.store.sqlite.errors import Meaning, meaning_of, refusing
from broker.store.sqlite.file import connect, locked, open_database
from broker.store.users import read_keys

_PAGES = 1_000  # pages of 4 KiB that are copied in one step; between two steps the server can write

Progress = Callable[[int, int], None]  # is called with the number of pages that are done, and the number of all pages


def backup(source: Path, target: Path, progress: Progress, *, also_moved: bool = False) -> int:
    """Makes a consistent copy of ``source``, in one file, by SQLite's backup API. Returns how many records the copy
    has.

    Raises SettingsError. It does so also if the log is damaged, because a copy of it would be of no use, and, unless
    ``also_moved`` is set, if the log has moved away. Otherwise a command that runs every night would continue to back
    up a log to which nobody writes any more."""
    advice = f"no backup was made, keep those that you have; `broker verify` says more; {RESTORE}"
    if not also_moved and (relocation := _relocation(source, advice)):
        raise SettingsError(f"{relocation}. Back that one up; with --moved, what this one had then")
    with new_file(target) as part:
        return _copy(source, part, progress, advice)


def _relocation(file: Path, advice: str) -> str:
    """Returns a sentence that says where the log is now, if it has moved away, and otherwise an empty text."""
    with reading(file, advice) as log:
        if not any(name == "moved" for _, name, *_ in log.execute("PRAGMA table_info(state)")):
            return ""  # an older Broker, which could not move logs, wrote this one
        moved, arrived = log.execute("SELECT moved, arrived FROM state").fetchone() or (None, 0)
    return relocated_to(str(file.parent), moved, bool(arrived)) if moved is not None else ""


def restore(source: Path, target: Path, progress: Progress) -> int:
    """Puts a backup in the place of a log that is not there any more. Returns how many records it has.

    It opens a new epoch. The records that were published after the backup are lost, and a page that has received them
    must not take the records to come for their continuation. Because of the new epoch, a backup of a log that has moved
    may be restored, too. Raises SettingsError."""
    with reading(source):  # a file that is no log is refused before a folder is made for it
        pass
    with locked(target), new_file(target) as part:
        records = _copy(source, part, progress, "nothing was restored; take an older backup")
        with contextlib.closing(open_database(part, also_moved=True)) as log:
            log.execute("BEGIN IMMEDIATE")
            # Tokens of sessions that were ended since the backup must not be valid again, whatever signs them.
            log.execute("UPDATE state SET moved = NULL, arrived = 0, token_salt = lower(hex(randomblob(16)))")
            log.execute("UPDATE users SET sessions = '[]'")
            open_epoch(log)
            log.execute("COMMIT")
            log.execute("PRAGMA journal_mode = DELETE")
        # Before the log has its name, so that no server can serve it without the mark.
        mark(target.parent, unconfirmed=rights_of(part) is not None)
        target.with_name("token-secret").unlink(missing_ok=True)  # it belongs to the log that was here
    return records


class RestoredRights(NamedTuple):
    """What an operator must look at after a restore, since a backup brings back the rights of its time."""

    made_at: str  # when the rules were made; "": there are no rules
    roles: list[str]
    admins: list[str]
    keys: list[str]  # the ids of the API keys, each behind the name of its program


def rights_of(file: Path) -> RestoredRights | None:
    """Returns the rights in a log that is being restored, or None if it has neither rules nor valid API keys. Raises
    SettingsError."""
    with reading(file) as log:
        row = log.execute(
            """SELECT r.data, p.published_us FROM events e JOIN publications p USING (position)
               JOIN records r USING (number) WHERE e.event = ?""",
            (RULES_EVENT,),
        ).fetchone()
        names = log.execute("""SELECT username FROM users WHERE roles LIKE '%"admin"%' AND NOT disabled""").fetchall()
        programs = log.execute("SELECT username, keys FROM users WHERE keys != '[]'").fetchall()
    now_s = time.time()
    keys = [
        f"{name} {key.id}"
        for name, text in programs
        for key in read_keys(text)
        if key.until_s is None or key.until_s > now_s
    ]
    if row is None and not keys:
        return None
    made_at, roles = "", []
    if row is not None:
        data, published_us = row
        made_at = datetime.fromtimestamp(published_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        with contextlib.suppress(BadRequest):  # the server says what is wrong with them
            roles = sorted(read_rules(data.encode()).rules.roles)
    return RestoredRights(made_at, roles, [name for (name,) in names], keys)


def _copy(source: Path, part: Path, progress: Progress, advice: str) -> int:
    with reading(source, advice) as log, contextlib.closing(connect(part)) as copy:
        # The read transaction of ``reading`` surrounds all steps. Without it, each insert of the server would make the
        # copy start again.
        (records,) = log.execute("SELECT (SELECT count(*) FROM records) FROM state").fetchone() or (0,)
        try:
            log.backup(copy, pages=_PAGES, progress=lambda status, left, total: progress(total - left, total))
        except sqlite3.Error as error:
            if meaning_of(error) is Meaning.DAMAGED:
                raise  # the source is damaged, and ``reading`` raises the error that says so
            raise SettingsError(f"cannot write {part}: {error}") from error
        (result,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise SettingsError(f"{source} is damaged: {result}; {advice}")
        copy.execute("PRAGMA journal_mode = DELETE")  # a backup is one file, without a write-ahead log beside it
    return int(records)


def open_epoch(log: sqlite3.Connection) -> None:
    """Ends the current epoch at the head, and opens a new one, within the caller's transaction."""
    log.execute("UPDATE epochs SET ended = (SELECT head FROM state) WHERE ended IS NULL")
    log.execute("INSERT INTO epochs VALUES (lower(hex(randomblob(4))), NULL)")


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yields the path of an empty file to fill. The file gets the name ``target`` at the end, when it is complete and
    on disk. If anything fails, nothing is left. Only this user can read the file, because it may contain password
    hashes. Raises SettingsError."""
    with refusing(f"write {target}"):
        if target.exists():
            raise SettingsError(f"{target} is there already; move it away, or give another name or folder")
        wal = target.with_name(target.name + "-wal")
        if wal.exists():  # SQLite would use it as the write-ahead log of the new file
            raise SettingsError(f"{wal} is there, of another log: move it to that log's file, or give another folder")
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
            # The name may not be on disk, and would then not survive a power cut. So the file is removed, because
            # whoever gets an error must not find a file that looks complete.
            target.unlink()
            raise


def sync(path: Path) -> None:
    """Writes a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
