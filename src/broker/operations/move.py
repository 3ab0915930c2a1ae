"""``broker move``: moves a whole log, with its epochs and positions, users and token secret, to another store.

The danger: both stores could accept writes afterwards. Then each would give the same positions to different records,
and a client that has received an id of one store would continue with the records of the other, without noticing it.
``_move`` says how this is excluded, whatever fails in between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from broker.errors import SettingsError
from broker.operations.content import COPIED, Content, Mark, NotCommitted, Signing
from broker.operations.move_sqlite import SQLiteSource, SQLiteTarget
from broker.store.outage import NO_DRIVER, relocated_to

if TYPE_CHECKING:
    from broker.operations.move_postgres import PostgresLog

_REPORT_EVERY = 1_000  # rows; the progress is reported each time that this many are done

Progress = Callable[[int, int], None]  # is called with the number of rows that are done, and the number of all rows


class Log(Protocol):
    """What the source and the target of a move have in common. All calls may raise SettingsError."""

    address: str  # in the form that --from and --to take, without a password

    def held(self) -> AbstractContextManager[None]:
        """Holds the write lock, so that nobody else writes to the log. The other calls are made while it is held."""
        ...

    def content(self) -> Content:
        """Returns what is in the log now, counted in the log itself."""
        ...


class Source(Log, Protocol):
    """A log that may be moved away."""

    def mark(self) -> Mark:
        """Returns the mark that an earlier run has left. The log is held, so no other run can change the mark."""
        ...

    def signing(self) -> Signing:
        """Returns what signs the tokens."""
        ...

    def rows(self, table: str) -> Generator[tuple[Any, ...]]: ...
    def put_mark(self, mark: Mark) -> None:
        """Writes the mark. It is on disk when this returns. If this raises, it is not known whether the mark is on
        disk."""
        ...


class Target(Log, Protocol):
    """Where a log is moved to, in one transaction. If ``commit`` is not called, nothing is in the target afterwards."""

    def begin(self) -> Content | None:
        """Begins to fill the target, if it has neither records nor users, and returns None. Otherwise returns what is
        in the target."""
        ...

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Writes the rows of one table. This is called once for each table of COPIED, in that order."""
        ...

    def finish(self, content: Content, signing: Signing) -> None:
        """Writes what is not in the tables of COPIED: the epochs, the counters, and what signs the tokens."""
        ...

    def commit(self) -> None:
        """Commits the transaction. Raises NotCommitted if it is certain that nothing was committed, and SettingsError
        if that is not known."""
        ...


class Moved(NamedTuple):
    """The result: what is in the target now."""

    address: str
    records: int
    users: int
    before: bool  # whether an earlier run had moved the log there already


def move_log(source: str, target: str, progress: Progress) -> Moved:
    """Moves the log from one folder, or URL of PostgreSQL, to another. Raises SettingsError."""
    old: Source = _postgres(source, new=False) if _is_url(source) else SQLiteSource(Path(source))
    new: Target = _postgres(target, new=True) if _is_url(target) else SQLiteTarget(Path(target))
    if old.address == new.address:
        raise SettingsError(f"--from and --to are the same: {old.address}")
    # The target is held first. The nodes on the source have to wait as soon as the source is held, and they must not
    # wait also for somebody else who holds the target.
    with new.held(), old.held():
        return _move(old, new, progress)


def _is_url(text: str) -> bool:
    """Returns whether the text means PostgreSQL. That is a URL, or libpq's ``host=... dbname=...``, which the setting
    ``database`` accepts, too. Raises SettingsError for the URL of anything else, which would otherwise become the name
    of a folder."""
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
    """Moves the log while both stores are held. If an earlier run was interrupted, finds out what it has done, and
    finishes the rest."""
    content, mark, existing = source.content(), source.mark(), target.begin()
    moved = Moved(target.address, content.rows["records"], content.rows["users"], before=False)
    if not moved.records and not moved.users:
        raise SettingsError(f"the log of {source.address} is empty: nothing is to be moved; start with the new one")
    if mark.moved not in (None, target.address):
        raise SettingsError(relocated_to(source.address, str(mark.moved), mark.arrived))
    if existing is not None:
        # If the source has the mark of a move to this target, and the target has the same log, then an earlier run has
        # moved it. The target may have more records by now, because nodes may already run on it.
        if mark.moved is None or not existing.continues(content):
            raise SettingsError(
                f"{target.address} is not empty; give another folder or database, or move away what is there"
            )
        source.put_mark(Mark(target.address, arrived=True))
        return moved._replace(before=True)
    # The log was in the target, and may have got further records there. If it were moved again from this source, the
    # positions of those records would be given to other records.
    if mark.arrived:
        raise SettingsError(
            f"the log of {source.address} was in {target.address}, and is not there any more: put a backup of that one "
            "in its place, or give up what was added since, with a new epoch: docs/operations.md, under Move the log"
        )
    _fill(source, target, content, progress)
    # The danger: both stores could accept writes. The target accepts writes as soon as it is committed. So before that,
    # the mark that the log has moved is written to the source's disk. Whatever happens in between (a kill, a power cut,
    # a lost connection), the source then refuses writes, and the target has either nothing or the whole log. The next
    # run sees which of the two it is, while it holds the locks of both. The mark may be withdrawn only by a run that
    # knows for certain that the commit failed.
    source.put_mark(Mark(target.address, arrived=False))
    try:
        target.commit()
    except NotCommitted:
        source.put_mark(Mark(None, arrived=False))
        raise
    # From here on, an empty target means that its log was lost. It no longer means that the commit failed.
    source.put_mark(Mark(target.address, arrived=True))
    return moved


def _fill(source: Source, target: Target, content: Content, progress: Progress) -> None:
    """Copies everything, and checks that it has arrived. Nothing of it is committed yet."""
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
    target.finish(content, source.signing())
    # The target counts its own rows, before the mark is written, so that a target which has lost something is never
    # committed.
    if (copied := target.content()) != content:
        raise SettingsError(f"not all has arrived, so nothing was moved: {content} became {copied}")
    progress(total, total)
