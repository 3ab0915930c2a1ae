"""``broker move``: moves a whole log, with its epochs and positions, users and token secret, to another store.

The danger is that both stores accept writes. Each would give the same positions to other records, and a client that has
the id of one would silently continue with the other. ``_move`` says how that is excluded, whatever fails in between."""

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

_REPORT_EVERY = 1_000  # rows, of which the progress is reported

Progress = Callable[[int, int], None]  # is called with how many rows are done, and of how many


class Source(Protocol):
    """A log that may be moved away. All calls may raise SettingsError."""

    address: str  # in the form that --from and --to take, without a password

    def held(self) -> AbstractContextManager[None]:
        """Holds the write lock: within it, nobody else writes to the log. The other calls are made within it."""
        ...

    def content(self) -> Content: ...
    def mark(self) -> Mark:
        """What an earlier run has left: it is read while the log is held, so no other run can change it."""
        ...

    def secret(self) -> str | None:
        """The token secret; None if the log has none, because the server was given one as a setting."""
        ...

    def rows(self, table: str) -> Generator[tuple[Any, ...]]: ...
    def put_mark(self, mark: Mark) -> None:
        """The mark is on disk when this returns. If it raises, that is not known."""
        ...


class Target(Protocol):
    """Where a log is moved to, in one transaction. All calls may raise SettingsError."""

    address: str  # in the form that --from and --to take, without a password

    def held(self) -> AbstractContextManager[None]:
        """Holds the write lock, and the transaction. Without ``commit`` nothing is there afterwards."""
        ...

    def existing(self) -> Content | None:
        """What is there before; None if it has neither records nor users."""
        ...

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Called once for each table of COPIED, in that order."""
        ...

    def finish(self, content: Content, secret: str | None) -> None:
        """Writes what is not in the tables: epochs, counters and the token secret."""
        ...

    def content(self) -> Content:
        """What is there now, counted in the target itself."""
        ...

    def commit(self) -> None:
        """Raises NotCommitted if it is certain that nothing is there, and SettingsError if that is not known."""
        ...


class Moved(NamedTuple):
    """The result: what is in the target now."""

    address: str
    records: int
    users: int
    before: bool  # whether an earlier run had moved it there already


def move_log(source: str, target: str, progress: Progress) -> Moved:
    """Moves the log from one folder, or URL of PostgreSQL, to another. Raises SettingsError."""
    old: Source = _postgres(source, new=False) if _is_url(source) else SQLiteSource(Path(source))
    new: Target = _postgres(target, new=True) if _is_url(target) else SQLiteTarget(Path(target))
    if old.address == new.address:
        raise SettingsError(f"--from and --to are the same: {old.address}")
    # The target comes first, because the nodes on the source wait from the moment at which it is held: not also while
    # somebody else holds the target.
    with new.held(), old.held():
        return _move(old, new, progress)


def _is_url(text: str) -> bool:
    """Whether it means PostgreSQL: a URL, or libpq's ``host=... dbname=...``, which the setting ``database`` takes,
    too. Raises SettingsError for the URL of anything else, which would become the name of a folder."""
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
    """Moves the log while both are held, or finds out what an earlier run has done, and finishes that."""
    content, mark, existing = source.content(), source.mark(), target.existing()
    moved = Moved(target.address, content.rows["records"], content.rows["users"], before=False)
    if not moved.records and not moved.users:
        raise SettingsError(f"the log of {source.address} is empty: nothing is to be moved; start with the new one")
    if mark.moved not in (None, target.address):
        raise SettingsError(relocated_to(source.address, str(mark.moved), mark.arrived))
    if existing is not None:
        # An earlier run has moved it, if the source says so and the target has the same log. There may be more in it by
        # now, because the nodes on the target may run already.
        if mark.moved is None or not existing.continues(content):
            raise SettingsError(
                f"{target.address} is not empty; give another folder or database, or move away what is there"
            )
        source.put_mark(Mark(target.address, arrived=True))
        return moved._replace(before=True)
    # The log was there, and may have got further records there. From this source their positions would be given again.
    if mark.arrived:
        raise SettingsError(
            f"the log of {source.address} was in {target.address}, and is not there any more: put a backup of that one "
            "in its place, or give up what was added since, with a new epoch: docs/operations.md, under Move the log"
        )
    _fill(source, target, content, progress)
    # The danger: both must never accept writes, and the target does from its commit on. So the mark that the log has
    # moved is on disk at the source before that. Whatever happens in between (a kill, a power cut, a lost connection)
    # leaves a source that refuses writes, and a target that has nothing or all. The next run sees which, while it holds
    # the locks of both. The mark may be withdrawn only by whoever knows for certain that the commit failed.
    source.put_mark(Mark(target.address, arrived=False))
    try:
        target.commit()
    except NotCommitted:
        source.put_mark(Mark(None, arrived=False))
        raise
    # From here on an empty target means that its log was lost, no longer that our commit failed.
    source.put_mark(Mark(target.address, arrived=True))
    return moved


def _fill(source: Source, target: Target, content: Content, progress: Progress) -> None:
    """Copies everything, and checks that it is there. Nothing of it is committed yet."""
    done, total = 0, sum(content.rows.values())

    def counted(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        nonlocal done
        for row in rows:
            yield row
            done += 1
            if done % _REPORT_EVERY == 0:
                progress(done, total)

    for table in COPIED:
        with closing(source.rows(table)) as rows:
            target.fill(table, counted(rows))
    target.finish(content, source.secret())
    # Counted in the target, before the mark: a target that lost something on the way is never committed.
    if (copied := target.content()) != content:
        raise SettingsError(f"not all has arrived, so nothing was moved: {content} became {copied}")
    progress(total, total)
