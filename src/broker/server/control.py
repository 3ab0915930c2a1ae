"""The operator's socket: a Unix socket in the data folder, over which ``broker user`` and ``broker rules`` reach the
server that runs on this folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from broker.errors import SettingsError

NAME = "control.sock"
_PATH_BYTES_MAX = 100  # the kernel's limit is 108 on Linux, and 104 on macOS


@contextlib.contextmanager
def reachable(folder: Path) -> Iterator[str]:
    """Yields a path of the socket that is short enough for the kernel. Raises SettingsError."""
    path = folder / NAME
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SettingsError(f"data: {folder}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        short = f"/proc/self/fd/{descriptor}/{NAME}"
        if not Path(short).parent.exists():
            raise SettingsError(f"data: the path {folder} is too long for a Unix socket; choose a shorter one")
        yield short


@contextlib.contextmanager
def control_socket(folder: Path) -> Iterator[socket.socket]:
    """Yields a bound socket that only this user can connect to, and removes it at the end. The caller holds the
    folder's lock, so a socket that is there belongs to a server that was killed. Raises SettingsError."""
    path = folder / NAME
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(listener), reachable(folder) as short:
        path.unlink(missing_ok=True)
        # The mode is right from the first moment on. With a ``chmod`` after the bind, others could connect in between.
        before = os.umask(0o177)
        try:
            listener.bind(short)
        except OSError as error:
            raise SettingsError(f"data: cannot make the socket {path}: {error.strerror}") from error
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
