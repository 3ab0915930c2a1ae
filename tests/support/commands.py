"""The command line, in this process and in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result

from broker.cli.main import main


def refused(result: Result) -> str:
    """The sentence of a command that failed as it should."""
    assert result.exit_code not in (0, -1), result.output
    assert isinstance(result.exception, SystemExit), result.exception  # else a traceback
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@contextmanager
def command(*arguments: str, environment: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`broker` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: object, **environment: str) -> Result:
    """A command in this process. What it prints has to be read from the result, which may be a refusal."""
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environment)


def done(*arguments: object, **environment: str) -> Result:
    """A command in this process that succeeds."""
    result = run(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return result
