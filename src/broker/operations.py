"""The commands for operators: they work on the files of the log, also while the server runs where that is safe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from broker.errors import SettingsError
from broker.store.backup import backup, restore
from broker.store.transfer import export_log, import_log, read_head
from broker.store.verify import count, verify

_data = click.option(
    "--data", envvar="BROKER_DATA", default=Path("./tmp"), type=click.Path(path_type=Path), show_default=True,
    help="The server's folder.",
)  # fmt: skip


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except (SettingsError, OSError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _bar(label: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere nothing."""
    with click.progressbar(length=length or 1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update
        bar.finish()


def _pages(label: str, work: Callable[[Path, Path, Callable[[int, int], None]], None], source: Path, to: Path) -> None:
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        work(source, to, progress)


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@_data
def backup_command(file: Path, data: Path) -> None:
    """Copy the log into FILE, consistent, while the server runs."""
    with _clear_errors():
        _pages("backup", backup, data / "broker.db", file)
    click.echo(f"{file}: {count(file)} records; keep it away from this disk", err=True)


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@_data
def restore_command(file: Path, data: Path) -> None:
    """Put a backup's FILE in place of a log that is lost. The server must not run."""
    with _clear_errors():
        _pages("restore", restore, file, data / "broker.db")
    click.echo(f"{data / 'broker.db'}: {count(data / 'broker.db')} records, in a new epoch", err=True)


@click.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_data
def verify_command(file: Path | None, data: Path) -> None:
    """Check the whole log, or a backup's FILE: prints what is wrong, and exits with 1 if anything is."""
    file = file or data / "broker.db"
    faults = 0
    with _clear_errors():
        records = count(file)
        with _bar("verify", records) as done:
            for fault in verify(file, done):
                click.echo(str(fault))
                faults += 1
    click.echo(f"{file}: {records} records, {faults or 'no'} fault{'s' if faults != 1 else ''}", err=True)
    if faults:
        sys.exit(1)


@click.command("export")
@click.argument("file", default="-", type=click.File("wb"))
@_data
def export_command(file: IO[bytes], data: Path) -> None:
    """Write users and log as lines of JSON to FILE, or standard output; also while the server runs."""
    with _clear_errors(), _bar("export", count(data / "broker.db")) as done:
        for line in export_log(data / "broker.db", done):
            file.write(line + b"\n")


@click.command("import")
@click.argument("file", default="-", type=click.File("rb"))
@_data
def import_command(file: IO[bytes], data: Path) -> None:
    """Read what `broker export` wrote, from FILE or standard input, into a log that is empty."""
    with _clear_errors():
        lines = iter(file)
        head = read_head(lines)
        with _bar("import", head.records) as done:
            import_log(data / "broker.db", head, lines, done)
    click.echo(f"{data / 'broker.db'}: {head.records} records and {head.users} users, in a new epoch", err=True)


COMMANDS: tuple[Any, ...] = (backup_command, restore_command, verify_command, export_command, import_command)
