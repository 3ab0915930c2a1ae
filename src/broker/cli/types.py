"""The command that writes the types of the data of all events."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import click

from broker.cli.client import Client, ClientError, Unreachable
from broker.cli.connection import client, client_options
from broker.cli.options import PathOption

_QUIET_S = 0.5  # without a further record, until the types are fetched again
_BUSY_S = 3.0  # the same, if there are records all the time
_RETRY_S = 2.0


@click.command("types")
@click.option("--out", type=PathOption(), help="Write this file, if the types have changed, in place of printing them.")
@click.option("--watch", is_flag=True, help="Do so again after each change, until Ctrl-C.")
@client_options
def types(out: Path | None, watch: bool, **options: Any) -> None:
    """Print the types of the data of all events, as TypeScript."""
    server = client(**options, needs_token=False)
    text, last_id = _fetch(server) if watch else server.get("/types.d.ts")
    _write(text, out)
    if not watch:
        return
    changes = _Changes(server, last_id)
    while True:
        changes.wait()
        before, (text, _) = text, _fetch(server)
        if text != before:
            _write(text, out)


def _fetch(server: Client) -> tuple[str, str]:
    """Waits for a server that is unreachable, because it starts again."""
    while True:
        try:
            return server.get("/types.d.ts")
        except Unreachable as error:
            _report(f"{error}; trying again in {_RETRY_S:.1f} s")
            time.sleep(_RETRY_S)


def _write(text: str, out: Path | None) -> None:
    """Replaces the file as a whole, so that a compiler which watches it never reads a part of it. A file that has this
    content already stays as it is."""
    if out is None:
        click.echo(text, nl=False)
        return
    out = out.resolve()  # a link stays a link
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if out.is_file() and out.read_bytes() == text.encode():
            return
        part.write_bytes(text.encode())
        part.replace(out)
    except OSError as error:
        raise ClientError(f"--out: cannot write {out}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    _report(f"wrote {out}")


def _report(text: str) -> None:
    click.echo(text, err=True)


class _Changes:
    """Follows the stream in a thread of its own.

    Mutable state, which this thread sets: whether something was published since the last ``wait``, and why the thread
    has ended."""

    def __init__(self, server: Client, last_id: str) -> None:
        self._changed = threading.Event()
        self._error: BaseException | None = None
        threading.Thread(target=self._follow, args=(server, last_id), daemon=True).start()

    def _follow(self, server: Client, last_id: str) -> None:
        try:
            for message in server.listen((), last_id, _report):
                if message.event != "$ready":
                    self._changed.set()
        except BaseException as error:  # the main thread raises it, whatever it is
            self._error = error
            self._changed.set()

    def wait(self) -> None:
        """Returns after the next records, when no further ones come for a moment. Raises ClientError."""
        self._changed.wait()
        until = time.monotonic() + _BUSY_S
        while self._error is None and self._changed.is_set() and time.monotonic() < until:
            self._changed.clear()
            self._changed.wait(_QUIET_S)
        self._changed.clear()
        if self._error is not None:
            raise self._error
