"""The commands for operators. They work on the files of the log; those that only read may run beside a server."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import click

from broker.cli.boundary import clear_errors
from broker.cli.options import PathOption, Text, settings_of
from broker.cli.values import amount
from broker.errors import SettingsError
from broker.operations.backup import backup, restore, rights_of
from broker.operations.content import AGAIN
from broker.operations.export import export_file, export_log, import_log, read_head
from broker.operations.move import move_log
from broker.operations.verify import count, verify
from broker.store.confirmation import unconfirmed

_P = TypeVar("_P")
_T = TypeVar("_T")

_OF_DATA = click.option(
    "--data",
    type=PathOption(),
    help="The server's folder.  [default: $BROKER_DATA, else what --config says, else ./tmp]",
)
_OF_CONFIG = click.option(
    "--config", envvar="BROKER_CONFIG", type=PathOption(), help="The server's TOML file, which may name its folder."
)


def _of_folder(command: Callable[..., None]) -> Callable[..., None]:
    return _OF_DATA(_OF_CONFIG(command))


def _log_file(data: Path | None, config: Path | None) -> Path:
    """The server's log. Raises SettingsError."""
    return settings_of(data, config).data / "broker.db"


def _owner(data: Path) -> str:
    """The next step for whoever has just made files: root often runs these commands, and seldom runs the server."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        user = f"user {os.geteuid()}"
    return f"the files belong to {user}: run Broker as that, or `chown -R` {data} to the server's user"


@contextmanager
def _bar(label: str, length: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar, if standard error is a terminal; otherwise nothing is shown."""
    with click.progressbar(length=length or 1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update
        bar.finish()


def _steps(label: str, work: Callable[[_P, _P, Callable[[int, int], None]], _T], source: _P, to: _P) -> _T:
    """What ``work`` returns, with a progress bar for work that learns its own size only while it runs."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        return work(source, to, progress)


@click.command("backup")
@click.argument("file", type=PathOption())
@click.option("--moved", is_flag=True, help="Also of a log that `broker move` has moved away: what it had then.")
@_of_folder
def backup_command(file: Path, data: Path | None, config: Path | None, moved: bool) -> None:
    """Copy the log into FILE, consistent, while the server runs."""
    records = _steps("backup", partial(backup, also_moved=moved), _log_file(data, config), file)
    click.echo(f"{file}: {amount(records, 'record')}; keep it away from this disk", err=True)


@click.command("restore")
@click.argument("file", type=PathOption())
@_of_folder
def restore_command(file: Path, data: Path | None, config: Path | None) -> None:
    """Put a backup's FILE in place of a log that is lost. The server must not run."""
    settings = settings_of(data, config)
    target = settings.data / "broker.db"
    records = _steps("restore", restore, file, target)
    click.echo(f"{target}: {amount(records, 'record')}, in a new epoch; {_owner(target.parent)}", err=True)
    click.echo("all sessions have ended", err=True)
    if (rights := rights_of(target)) is not None:
        rules = f"its rules are those of {rights.made_at}" if rights.made_at else "it has no rules"
        roles, admins = (", ".join(names) or "none" for names in (rights.roles, rights.admins))
        click.echo(f"{rules}; roles: {roles}; administrators: {admins}", err=True)
        if rights.keys:
            click.echo(
                f"these API keys are valid again, also if they were revoked since: {', '.join(rights.keys)}", err=True
            )
        click.echo(f"{unconfirmed(target.parent)}; until then it is not served", err=True)


@click.command("verify")
@click.argument("file", required=False, type=PathOption())
@_of_folder
def verify_command(file: Path | None, data: Path | None, config: Path | None) -> None:
    """Check the whole log, or a backup's FILE: prints what is wrong, and exits with 1 if anything is."""
    faults = 0
    # Only faults are printed. If nobody reads them to the end, there was one at least.
    with clear_errors(cut_off=1):
        file = file or _log_file(data, config)
        records = count(file)
        with _bar("verify", records) as done:
            for fault in verify(file, done):
                click.echo(str(fault))
                faults += 1
    result = amount(faults, "fault") if faults else "no faults"
    click.echo(f"{file}: {amount(records, 'record')}, {result}", err=True)
    if faults:
        sys.exit(1)


@click.command("export")
@click.argument("file", default=Path("-"), type=PathOption())
@_of_folder
def export_command(file: Path, data: Path | None, config: Path | None) -> None:
    """Write users and log as lines of JSON to a new FILE, or standard output; also while the server runs."""
    source = _log_file(data, config)
    with _bar("export", count(source)) as done:
        if str(file) != "-":
            export_file(source, file, done)
        elif sys.stdout is None:
            raise SettingsError("standard output is closed; give the name of a FILE")
        else:
            sys.stdout.buffer.writelines(export_log(source, done))
            sys.stdout.buffer.flush()


@click.command("import")
@click.argument("file", default="-", type=click.File("rb"))
@_of_folder
def import_command(file: IO[bytes], data: Path | None, config: Path | None) -> None:
    """Read what `broker export` wrote, from FILE or standard input, into a log that is empty. The server must not
    run."""
    target = _log_file(data, config)
    lines = iter(file)
    head = read_head(lines)
    with _bar("import", head.records) as done:
        import_log(target, head, lines, done)
    stored = f"{amount(head.records, 'record')} and {amount(head.users, 'user')}"
    click.echo(f"{target}: {stored}, in a new epoch; {_owner(target.parent)}", err=True)


@click.command("move")
@click.option(
    "--from", "source", required=True, type=Text(), help="Where the log is: a folder, or postgresql://user@host/name."
)
@click.option(
    "--to", "target", required=True, type=Text(), help="Where it goes, in the same form; nothing may be there."
)
def move_command(source: str, target: str) -> None:
    """Move the log from a folder to PostgreSQL, or back. Where it was is read-only from then on. No server may run on
    the folder."""
    try:
        moved = _steps("move", move_log, source, target)
    except KeyboardInterrupt:
        raise SettingsError(f"interrupted; {AGAIN}") from None
    if moved.before:
        click.echo(f"{moved.address}: the log was there already, complete; there was nothing to do", err=True)
        return
    stored = f"{amount(moved.records, 'record')} and {amount(moved.users, 'user')}"
    more = "" if moved.address.startswith("postgresql:") else f"; {_owner(Path(moved.address))}"
    click.echo(f"{moved.address}: {stored}, in the same epoch{more}", err=True)
