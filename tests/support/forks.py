"""Servers of the tests, forked from a process that has loaded Broker already: loading it is most of a server's start,
and hundreds of tests start one.

The process that forks has one thread, and has opened nothing, so what it forks is like a new process."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from functools import cache
from typing import NoReturn

from tests.support.documents import ROOT

_MESSAGE_BYTES_MAX = 200_000  # the arguments and the environment of one server


class Fork:
    """``broker`` with these arguments, as a process of its own. It has the methods of ``subprocess.Popen`` that the
    tests use."""

    def __init__(self, arguments: list[str], stderr: int, env: dict[str, str]) -> None:
        """``stderr`` is the file descriptor to which it writes its log."""
        self.returncode: int | None = None
        self._status, other = socket.socketpair()
        with other:
            socket.send_fds(_forking(), [json.dumps([arguments, env]).encode()], [other.fileno(), stderr])
        self._lines = self._status.makefile("r")
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"broker (process {self.pid})", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = int(self._lines.readline())
        self._lines.close()
        self._status.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forking() -> socket.socket:
    """Starts the process that forks. It ends with this one, because nothing can be received any more then."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-m", "tests.support.forks", str(its.fileno())]
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        forking = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env, pass_fds=[its.fileno()], cwd=ROOT)
    atexit.register(forking.wait)
    atexit.register(ours.close)  # before that
    return ours


def _serve(requests: socket.socket) -> None:
    """Forks for each request, until nobody is left who could send one."""
    import broker.cli.main
    import broker.server.run
    import broker.server.workers  # noqa: F401 # what a server loads

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that those who wait for the servers leave nothing behind
    while True:
        message, files, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES_MAX, 2)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _watch(json.loads(message), *files)
        for each in files:
            os.close(each)


def _watch(message: tuple[list[str], dict[str, str]], status: int, stderr: int) -> NoReturn:
    """Forks the server, and writes its process id and, once it has ended, its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _run(*message, stderr)
    os.close(stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and that ends this
    os.write(status, b"%d\n" % pid)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _run(arguments: list[str], env: dict[str, str], stderr: int) -> NoReturn:
    """Does what ``python -m broker`` does, from the start of the interpreter to its end."""
    os.dup2(stderr, 2)
    os.close(stderr)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)  # what it was opened for may have been another kind of file
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    code: object = 1
    try:
        if "COVERAGE_PROCESS_CONFIG" in env:
            import coverage

            coverage.process_startup()
        from broker.cli.main import console_script

        console_script()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as the end of the interpreter does
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
