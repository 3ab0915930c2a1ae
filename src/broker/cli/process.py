"""What a command needs of the process that it runs in: UTF-8, and three open files."""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys


def prepare() -> None:
    """Once, before anything else. May start the process anew."""
    _speak_utf8()
    _open_standard_files()


def _speak_utf8() -> None:
    """Arguments, names of files and JSON are UTF-8, whatever the locale's encoding is. Python decodes arguments with
    that before any of its code runs: so it begins again in its UTF-8 mode (PEP 540), which is its default from 3.15."""
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts, too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 (itself)
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # PYTHONIOENCODING may say something else
            stream.reconfigure(encoding="utf-8", errors=errors)


def _open_standard_files() -> None:
    """A process may be started without them (``<&-``). What is opened next would take their numbers: a database that
    somebody's ``print`` writes into, and libuv aborts when it closes one of these three."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (as long as the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
