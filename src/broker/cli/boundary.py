"""The boundary of all commands: what goes wrong inside becomes one sentence on standard error, and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from broker.cli.client import ClientError
from broker.errors import BrokerError


@contextmanager
def clear_errors(cut_off: int = 0) -> Iterator[None]:
    """Prints a sentence instead of a traceback.

    ``cut_off`` is the exit status for the case that nobody reads standard output to its end, as in ``... | head``."""
    try:
        yield
    except (ClientError, BrokerError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        # Standard output may be what failed. Python flushes it once more when the process ends, which would fail again,
        # and print a traceback of its own.
        _discard_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(cut_off)
        where = f"{error.filename}: " if error.filename else "cannot read or write: "
        raise click.ClickException(f"{where}{error.strerror or error}") from None
    except UnicodeError as error:
        raise click.ClickException(f"an argument or file is not UTF-8: {error}") from None
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it


def _discard_output() -> None:
    if sys.stdout is not None:
        with suppress(OSError):  # it is no file of the system's, as in tests
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
