"""``broker move``: moves a whole log, with its epochs and positions, users and token secret, to another store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from broker.errors import SettingsError
from broker.operations.content import COPIED, Content, Mark, NotCommitted
from broker.operations.move_sqlite import SQLiteSource, SQLiteTarget
from broker.store.outage import NO_DRIVER, relocated_to

if TYPE_CHECKING:
    from broker.operations.move_postgres import PostgresLog

_ROWS = 1_000  # told of at a time

Progress = Callable[[int, int], None]  # so many of so many rows are done


class Source(Protocol):
    """A log that may be moved away. While it is held nobody else writes to it. Each call raises SettingsError."""

    address: str  # as --from and --to take it, without a password

    def held(self) -> AbstractContextManager[None]: ...
    def content(self) -> Content: ...
    def mark(self) -> Mark: ...
    def secret(self) -> str | None: ...
    def rows(self, table: str) -> Generator[tuple[Any, ...]]: ...
    def put_mark(self, mark: Mark) -> None:
        """On disk when it returns."""
        ...


class Target(Protocol):
    """Where a log is moved to, in one transaction, which lasts while it is held. Each call raises SettingsError."""

    address: str

    def held(self) -> AbstractContextManager[None]: ...
    def found(self) -> Content | None:
        """What is there before; None: nothing."""
        ...

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None: ...
    def finish(self, content: Content, secret: str | None) -> None:
        """Epochs and counters; nothing is missing now."""
        ...

    def content(self) -> Content: ...
    def commit(self) -> None:
        """Raises NotCommitted if nothing is there; SettingsError: that is not known."""
        ...


class Moved(NamedTuple):
    """What is there now."""

    address: str
    records: int
    users: int
    before: bool  # it was there already


def move_log(source: str, target: str, progress: Progress) -> Moved:
    """Moves the log from one folder or URL of PostgreSQL to another. Raises SettingsError."""
    here: Source = _postgres(source, new=False) if _is_url(source) else SQLiteSource(Path(source))
    there: Target = _postgres(target, new=True) if _is_url(target) else SQLiteTarget(Path(target))
    if here.address == there.address:
        raise SettingsError(f"--from and --to are the same: {here.address}")
    with there.held(), here.held():  # in this order: the source's writers wait only once the target is there
        return _move(here, there, progress)


def _is_url(text: str) -> bool:
    """Or libpq's ``host=... dbname=...``, which the setting ``database`` takes, too."""
    scheme, colon, _ = text.partition("://")
    if colon and scheme not in ("postgresql", "postgres"):
        raise SettingsError("neither a folder nor a postgresql:// URL; give postgresql://user@host/name")
    return bool(colon) or "=" in text.partition("/")[0]


def _postgres(url: str, *, new: bool) -> PostgresLog:
    try:
        from broker.operations.move_postgres import PostgresLog
    except ImportError:
        raise SettingsError(NO_DRIVER) from None
    return PostgresLog(url, new=new)


def _move(source: Source, target: Target, progress: Progress) -> Moved:
    content, mark, found = source.content(), source.mark(), target.found()
    moved = Moved(target.address, content.rows["records"], content.rows["users"], before=False)
    if not moved.records and not moved.users:
        raise SettingsError(f"the log of {source.address} is empty: nothing is to be moved; start with the new one")
    if mark.moved not in (None, target.address):
        raise SettingsError(relocated_to(source.address, str(mark.moved), mark.arrived))
    if found is not None:
        if mark.moved is None or not found.continues(content):
            raise SettingsError(
                f"{target.address} is not empty; give another folder or database, or move away what is there"
            )
        source.put_mark(Mark(target.address, arrived=True))
        return moved._replace(before=True)
    if mark.arrived:  # and went on there: its positions must not be given once more
        raise SettingsError(
            f"the log of {source.address} was in {target.address}, and is not there any more: put a backup of that one "
            "in its place, or give up what was added since, with a new epoch: docs/operations.md, under Move the log"
        )
    _fill(source, target, content, progress)
    # The danger: never may both take writes, and the target does from its commit on. So first it is on disk at the
    # source that it has moved. Whatever happens between the two (a kill, a power cut, a lost connection) leaves a
    # source that refuses, and a target that has nothing or all. The next run sees which, under the locks of both.
    # Only who knows that the commit failed may take the mark away.
    source.put_mark(Mark(target.address, arrived=False))
    try:
        target.commit()
    except NotCommitted:
        source.put_mark(Mark(None, arrived=False))
        raise
    # An empty target is from here on no commit that did not happen, but a log that was lost.
    source.put_mark(Mark(target.address, arrived=True))
    return moved


def _fill(source: Source, target: Target, content: Content, progress: Progress) -> None:
    done, total = 0, sum(content.rows.values())

    def counted(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        nonlocal done
        for row in rows:
            yield row
            done += 1
            if done % _ROWS == 0:
                progress(done, total)

    for table in COPIED:
        with closing(source.rows(table)) as rows:
            target.fill(table, counted(rows))
    target.finish(content, source.secret())
    if (arrived := target.content()) != content:
        raise SettingsError(f"not all has arrived, so nothing was moved: {content} became {arrived}")
    progress(total, total)
