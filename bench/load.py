"""The two C programs of the benchmark, ``load`` and ``floor``: compiled, started and spoken to."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from bench.errors import BenchError

SOURCES = Path(__file__).parent
PROGRAMS = {"load": ("load.c", "http.c", "subscribe.c", "publish.c", "load.h"), "floor": ("floor.c",)}
BOUND = 300.0  # seconds for a command that says no time itself: a program that hangs is an error, not a wait

T = TypeVar("T")


@dataclass(frozen=True)
class Latency:
    """Microseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    count: int


@dataclass(frozen=True)
class Received:
    """What the subscribers got since the mark."""

    connections: int
    closed: int
    refused: int
    frames: int
    frames_min: int
    frames_max: int
    bytes: int
    gaps: int
    repeats: int
    latency_us: Latency
    ready_us: Latency
    cpu_s: float
    wall_s: float
    first_to_last_s: float
    open_s: float
    timeout: bool
    error: str


@dataclass(frozen=True)
class Published:
    """What one command of the publisher did. Status "0" counts requests without a complete response."""

    requests: int
    ok: int
    failed: int
    statuses: Mapping[str, int]
    latency_us: Latency
    cpu_s: float
    wall_s: float
    reconnects: int
    late: int
    last_n: int
    sample: str


@dataclass(frozen=True)
class Sent:
    """What the floor's rounds cost."""

    sends: int
    cpu_s: float
    wall_s: float


def compile_programs(folder: Path) -> Path:
    """Compile ``load`` and ``floor`` into ``folder``, where they are missing or older than one of their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in PROGRAMS.items():
        program, sources = folder / name, [SOURCES / file for file in files]
        if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
            continue
        compiler = shutil.which("cc")
        if compiler is None:
            raise BenchError("the benchmark needs a C compiler (cc): on Debian, apt install gcc")
        new = folder / f"{name}.{os.getpid()}"  # renamed when complete: another run may be using the old one
        units = [str(source) for source in sources if source.suffix == ".c"]
        command = [compiler, "-std=c11", "-O2", "-o", str(new), *units]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"{name} does not compile:\n{done.stderr}")
        new.replace(program)
    return folder


class Pending(Generic[T]):
    """A command that is under way; ``answer`` waits for its end."""

    def __init__(self, program: Program, kind: type[T], bound: float) -> None:
        self._program = program
        self._kind = kind
        self._deadline = time.monotonic() + bound

    def answer(self) -> T:
        fields = self._program.read_answer(self._deadline)
        for name in ("latency_us", "ready_us"):
            if name in fields:
                fields[name] = Latency(**fields[name])
        return self._kind(**fields)


class Program:
    """A program that takes commands as lines and answers each with a line of JSON, in order."""

    def __init__(self, command: list[str]) -> None:
        self._name = " ".join(command[:2])
        self._rest = b""
        # A file: a pipe that nobody reads would stop the program.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the program at once, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def start(self, line: str, kind: type[T], bound: float = BOUND) -> Pending[T]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except (BrokenPipeError, ValueError) as problem:
            raise self._died() from problem
        return Pending(self, kind, bound)

    def read_answer(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise BenchError(f"{self._name} has not answered in time{self._said()}")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise self._died()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> BenchError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return BenchError(f"{self._name} ended with status {self._process.returncode}{self._said()}")

    def _said(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return f": {text}" if text else ""


def _headers(headers: Mapping[str, str] | None) -> Iterable[str]:
    for name, value in (headers or {}).items():
        yield from ("--header", f"{name}: {value}")


class Subscribers(Program):
    """Event streams. ``ready`` waits for ``$ready`` on each; without ``order`` holes and repeats are not counted."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        host: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
        rcvbuf: int = 0,
        ready: bool = False,
        order: bool = True,
        open_timeout: float = 120,
    ) -> None:
        command = [str(folder / "load"), "subscribe", "--host", host, "--port", str(port), *_headers(headers)]
        command += ["--rcvbuf", str(rcvbuf)] if rcvbuf else []
        command += ["--ready"] if ready else []
        command += [] if order else ["--no-order"]
        super().__init__([*command, "--open-timeout", str(open_timeout)])
        self._open_bound = open_timeout + BOUND

    def start_open(self, count: int, path: str) -> Pending[Received]:
        """``count`` more connections; ``%d`` in the path becomes the connection's index."""
        return self.start(f"open {count} {path}", Received, self._open_bound)

    def open(self, count: int, path: str) -> Received:
        return self.start_open(count, path).answer()

    def start_storm(self, count: int, path: str) -> Pending[Received]:
        """Drop all connections, then open ``count`` at once."""
        return self.start(f"storm {count} {path}", Received, self._open_bound)

    def storm(self, count: int, path: str) -> Received:
        return self.start_storm(count, path).answer()

    def mark(self) -> None:
        self.start("mark", dict).answer()

    def start_wait(self, count: int, timeout: float) -> Pending[Received]:
        """Until every connection has ``count`` frames since the mark, or ``timeout`` seconds have gone."""
        return self.start(f"wait {count} {timeout}", Received, timeout + BOUND)

    def wait(self, count: int, timeout: float) -> Received:
        return self.start_wait(count, timeout).answer()

    def start_run(self, seconds: float) -> Pending[Received]:
        return self.start(f"run {seconds}", Received, seconds + BOUND)

    def run(self, seconds: float) -> Received:
        return self.start_run(seconds).answer()

    def report(self) -> Received:
        return self.start("report", Received).answer()


class Publisher(Program):
    """Clients that post events. publish.c says what ``@N@``, ``@T@``, ``@U@`` and ``@E@`` in the body become."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        path: str,
        body: str,
        clients: int = 1,
        host: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
        batch: int = 1,
        events: int = 1,
        count_from: int = 1,
    ) -> None:
        command = [str(folder / "load"), "publish", "--host", host, "--port", str(port), *_headers(headers)]
        command += ["--path", path, "--body", body, "--clients", str(clients), "--batch", str(batch)]
        super().__init__([*command, "--events", str(events), "--count-from", str(count_from)])

    def start_closed(self, seconds: float, bound: float = BOUND) -> Pending[Published]:
        """Each client as fast as it is answered."""
        return self.start(f"closed {seconds}", Published, seconds + bound)

    def closed(self, seconds: float, bound: float = BOUND) -> Published:
        return self.start_closed(seconds, bound).answer()

    def start_rate(self, per_second: float, seconds: float, bound: float = BOUND) -> Pending[Published]:
        """Evenly spaced, whether the server keeps up or not."""
        return self.start(f"rate {per_second} {seconds}", Published, seconds + bound)

    def rate(self, per_second: float, seconds: float, bound: float = BOUND) -> Published:
        return self.start_rate(per_second, seconds, bound).answer()

    def start_burst(self, count: int, bound: float = BOUND) -> Pending[Published]:
        return self.start(f"burst {count}", Published, bound)

    def burst(self, count: int, bound: float = BOUND) -> Published:
        return self.start_burst(count, bound).answer()


class Floor(Program):
    """The server that does nothing but send; ``port`` 0 takes a free one."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__([str(folder / "floor"), str(port)])
        self.port: int = self.read_answer(time.monotonic() + 10)["port"]

    def start_send(self, count: int, gap_us: int, size: int, bound: float = BOUND) -> Pending[Sent]:
        return self.start(f"send {count} {gap_us} {size}", Sent, count * gap_us / 1e6 + bound)

    def send(self, count: int, gap_us: int, size: int, bound: float = BOUND) -> Sent:
        return self.start_send(count, gap_us, size, bound).answer()

    def bulk(self, size: int, piece: int) -> None:
        """From now on each new connection gets ``size`` bytes of events at once, then ``$ready``; 0 ends that."""
        self.start(f"bulk {size} {piece}", dict).answer()

    def cpu_s(self) -> float:
        answer: dict[str, float] = self.start("cpu", dict).answer()
        return answer["cpu_s"]
