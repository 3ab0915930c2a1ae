"""A server that is started in a terminal, where it prints what it never logs."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving_in_a_terminal(data: Path, *options: str, until: str) -> Iterator[str]:
    """Yields what a server has printed in a terminal, up to the line with this text, and serves meanwhile."""
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "broker", "serve", "--data", str(data), "--port", "0", *options]
    with subprocess.Popen(command, stderr=terminal) as process:
        try:
            os.close(terminal)
            said = ""
            while until not in said or not said.endswith("\n"):
                assert select.select([person], [], [], 20)[0], said
                said += os.read(person, 10_000).decode()
            yield said
        finally:
            process.terminate()
            os.close(person)
