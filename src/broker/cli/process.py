"""Prepares the process that a command runs in: its encoding is UTF-8, and the three standard files are open."""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys


def speak_utf8() -> None:
    """Has to be called first, and once. It may restart the process.

    Arguments, names of files and JSON are UTF-8, whatever the encoding of the locale is. Python decodes the arguments
    before any of our code runs, in the encoding of the locale. So the process restarts in Python's UTF-8 mode (PEP
    540), which is the default from Python 3.15 on."""
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # also for the processes that this one will start
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 (the same program)
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # PYTHONIOENCODING may have set another encoding
            stream.reconfigure(encoding="utf-8", errors=errors)


def open_standard_files() -> None:
    """A shell can start a process with a standard file closed (``<&-``). The next file that is opened then gets its
    number. If that were the database, a ``print`` would write into it; and libuv aborts when it closes one of the
    three."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (as long as the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
