"""The commands for operators: they work on the files of the log, also while the server runs where that is safe."""

from __future__ import annotations

import codecs
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from broker.cli.options import PathOption, Text
from broker.errors import SettingsError
from broker.operations.backup import backup, restore
from broker.operations.content import AGAIN
from broker.operations.export import export_file, export_log, import_log, read_head
from broker.operations.move import move_log
from broker.operations.verify import count, verify

_P = TypeVar("_P")
_T = TypeVar("_T")

_data = click.option(
    "--data", envvar="BROKER_DATA", default=Path("./tmp"), type=PathOption(), show_default=True,
    help="The server's folder.",
)  # fmt: skip


@contextmanager
def _clear_errors(cut_off: int = 0) -> Iterator[None]:
    """A sentence instead of a traceback; and ``cut_off`` for a status if nobody reads on, as in ``... | head``."""
    try:
        yield
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        # Standard output may have failed: Python would try to write the rest of it once more at its end.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(cut_off)
        where = f"{error.filename}: " if error.filename else "cannot read or write: "
        raise click.ClickException(f"{where}{error.strerror or error}") from None


def _amount(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _owner(data: Path) -> str:
    """What comes next: root often does this work, and seldom runs the server."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        user = f"user {os.geteuid()}"
    return f"the files belong to {user}: run Broker as that, or `chown -R` {data} to the server's user"


@contextmanager
def _bar(label: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere nothing."""
    with click.progressbar(length=length or 1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update
        bar.finish()


def _steps(label: str, work: Callable[[_P, _P, Callable[[int, int], None]], _T], source: _P, to: _P) -> _T:
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        return work(source, to, progress)


@click.command("backup")
@click.argument("file", type=PathOption())
@click.option("--moved", is_flag=True, help="Also of a log that `broker move` has moved: what it had then.")
@_data
def backup_command(file: Path, data: Path, moved: bool) -> None:
    """Copy the log into FILE, consistent, while the server runs."""
    with _clear_errors():
        records = _steps("backup", partial(backup, also_moved=moved), data / "broker.db", file)
    click.echo(f"{file}: {_amount(records, 'record')}; keep it away from this disk", err=True)


@click.command("restore")
@click.argument("file", type=PathOption())
@_data
def restore_command(file: Path, data: Path) -> None:
    """Put a backup's FILE in place of a log that is lost. The server must not run."""
    with _clear_errors():
        records = _steps("restore", restore, file, data / "broker.db")
    click.echo(f"{data / 'broker.db'}: {_amount(records, 'record')}, in a new epoch; {_owner(data)}", err=True)


@click.command("verify")
@click.argument("file", required=False, type=PathOption())
@_data
def verify_command(file: Path | None, data: Path) -> None:
    """Check the whole log, or a backup's FILE: prints what is wrong, and exits with 1 if anything is."""
    file = file or data / "broker.db"
    faults = 0
    with _clear_errors(cut_off=1):  # only what is wrong is printed
        records = count(file)
        with _bar("verify", records) as done:
            for fault in verify(file, done):
                click.echo(str(fault))
                faults += 1
    told = _amount(faults, "fault") if faults else "no faults"
    click.echo(f"{file}: {_amount(records, 'record')}, {told}", err=True)
    if faults:
        sys.exit(1)


@click.command("export")
@click.argument("file", default="-", type=PathOption(allow_dash=True))
@_data
def export_command(file: Path, data: Path) -> None:
    """Write users and log as lines of JSON to a new FILE, or standard output; also while the server runs."""
    with _clear_errors(), _bar("export", count(data / "broker.db")) as done:
        if str(file) == "-":
            if sys.stdout is None:
                raise SettingsError("standard output is closed; give the name of a FILE")
            sys.stdout.buffer.writelines(export_log(data / "broker.db", done))
            sys.stdout.buffer.flush()
        else:
            export_file(data / "broker.db", file, done)


def _without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Some editors begin UTF-8 with a byte order mark."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(codecs.BOM_UTF8)


@click.command("import")
@click.argument("file", default="-", type=click.File("rb"))
@_data
def import_command(file: IO[bytes], data: Path) -> None:
    """Read what `broker export` wrote, from FILE or standard input, into a log that is empty. The server must not
    run."""
    with _clear_errors():
        lines = _without_mark(file)
        head = read_head(lines)
        with _bar("import", head.records) as done:
            import_log(data / "broker.db", head, lines, done)
    told = f"{_amount(head.records, 'record')} and {_amount(head.users, 'user')}"
    click.echo(f"{data / 'broker.db'}: {told}, in a new epoch; {_owner(data)}", err=True)


@click.command("move")
@click.option(
    "--from", "source", required=True, type=Text(), help="Where the log is: a folder, or postgresql://user@host/name."
)
@click.option("--to", "target", required=True, type=Text(), help="Where it goes: the same; nothing may be there.")
def move_command(source: str, target: str) -> None:
    """Move the log from a folder to PostgreSQL, or back. Where it was is read-only from then on. No server may run on
    the folder."""
    with _clear_errors():
        try:
            moved = _steps("move", move_log, source, target)
        except KeyboardInterrupt:
            raise SettingsError(f"interrupted; {AGAIN}") from None
    if moved.before:
        click.echo(f"{moved.address}: the log was there already, complete; nothing was to be done", err=True)
        return
    told = f"{_amount(moved.records, 'record')} and {_amount(moved.users, 'user')}"
    more = "" if moved.address.startswith("postgresql:") else f"; {_owner(Path(moved.address))}"
    click.echo(f"{moved.address}: {told}, in the same epoch{more}", err=True)


COMMANDS: tuple[Any, ...] = (
    backup_command, restore_command, verify_command, export_command, import_command, move_command,
)  # fmt: skip
