"""Real server processes, and real clients of theirs, for the tests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.forks import Fork

BOUND_S = 20.0  # no wait of a test is longer


def wait_for(
    condition: Callable[[], Any], bound_s: float = BOUND_S, what: str | Callable[[], str] = "the condition"
) -> Any:
    """What ``condition`` returns once it is true; fails after ``bound_s``, and only then asks ``what`` that was."""
    deadline = time.monotonic() + bound_s
    while True:
        if found := condition():
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what() if callable(what) else what} did not come true within {bound_s} s")
        time.sleep(0.01)


async def until(condition: Callable[[], Any], bound_s: float = BOUND_S) -> None:
    """Waits while other tasks of the test run. Raises TimeoutError after ``bound_s``."""
    async with asyncio.timeout(bound_s):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.0005)


class ServerProcess:
    """`broker serve` in a process of its own, on a free port of the loopback interface."""

    python: str | None = None  # that runs it; None: it is forked from a process that has loaded Broker already

    def __init__(self, data: Path, *options: str, port: int = 0, scheme: str = "http", **settings: object) -> None:
        self.data = data
        self.port = port
        self.scheme = scheme
        self.log: list[str] = []
        self.module = ["broker"]  # what Python runs, with its first arguments
        self.options = [*options, *(part for name, value in settings.items() for part in ("--set", f"{name}={value}"))]
        self._process: subprocess.Popen[bytes] | Fork | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes] | Fork:
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> Self:
        """Returns once it serves. Started again, it has the same port and data."""
        arguments = ["serve", "--data", str(self.data), "--port", str(self.port), *self.options]
        begun = len(self.log)
        with self.reading_log() as (log, env):
            if self.python is None and self.module == ["broker"]:
                self._process = Fork(arguments, log, env)
            else:
                command = [self.python or sys.executable, "-m", *self.module, *arguments]
                self._process = subprocess.Popen(command, stderr=log, env=env)
        wait_for(lambda: self._serves(begun) or self.process.poll() is not None, what="the server's start")
        assert self.process.poll() is None, f"the server ended: {self.log}"
        return self

    @contextmanager
    def reading_log(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields where a process that is started now writes its log, and its environment: what the tests have, without
        settings."""
        reads, writes = os.pipe()
        threading.Thread(target=self._read_log, args=(reads,), daemon=True).start()
        try:
            yield writes, {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        finally:
            os.close(writes)

    def _read_log(self, file: int) -> None:
        with open(file) as lines:
            for line in lines:
                self.log.append(line.rstrip())

    def _serves(self, begun: int) -> bool:
        for line in self.log[begun:]:
            if match := re.search(r"serves on \w+://[^ ]*:(\d+) ", line):
                self.port = int(match[1])
                return True
        return False

    def wait_for_log(self, text: str) -> str:
        """The line of the log that has this text, once it is there."""
        line: str = wait_for(lambda: next((line for line in self.log if text in line), ""), what=f"{text!r} in the log")
        return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(BOUND_S)

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            finally:
                self.process.kill()

    def client(self, username: str | None = None, password: str = "correct horse") -> httpx.Client:
        """An HTTP client; with the token of ``username``, who is created if need be."""
        headers = {} if username is None else {"Authorization": f"Bearer {self.token(username, password)}"}
        return httpx.Client(base_url=self.url, timeout=BOUND_S, verify=False, headers=headers)

    def token(self, username: str, password: str = "correct horse") -> str:
        """A token of ``username``, who is created if need be."""
        body = {"username": username, "password": password}
        with self.client() as client:
            assert client.post("/users", json=body).status_code in (201, 409)
            return str(client.post("/login", json=body).json()["jwt"])


@dataclass
class Frame:
    """One event of a stream, as its bytes said."""

    id: str
    event: str
    data: str
    received_us: int = field(default=0, compare=False)  # microseconds since the epoch

    @property
    def position(self) -> int:
        return int(self.id.rpartition("-")[2])

    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class EventReader:
    """Takes a stream's bytes as they come, and reads them line by line, as WHATWG HTML section 9.2.6 says."""

    frames: list[Frame] = field(default_factory=list)
    comments: int = 0
    last_id: str = ""
    retry: str = ""
    empty: list[str] = field(default_factory=list)  # blocks without data: several libraries deliver them as events
    _rest: bytes = b""
    _block: list[str] = field(default_factory=list)

    def take(self, part: bytes, received_us: int = 0) -> None:
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b":"):
                self.comments += 1
            elif line.startswith(b"retry: "):
                self.retry = line[7:].decode()
            elif line:
                self._block.append(line.decode())
            else:
                self._dispatch(received_us)

    def _dispatch(self, received_us: int) -> None:
        block, self._block = self._block, []
        fields: dict[str, str] = {}
        for line in block:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        self.last_id = fields.get("id", self.last_id)
        if "data" in fields:
            event = fields.get("event", "message")
            self.frames.append(Frame(fields.get("id", ""), event, fields["data"], received_us))
        else:
            self.empty.append("\n".join(block))

    def records(self) -> list[Frame]:
        return [frame for frame in self.frames if not frame.event.startswith("$")]


class StreamReader(EventReader):
    """Reads a stream off a plain socket, in a thread: everything that came, as it came."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.head = ""
        self.ended = ""  # "cleanly", "between chunks" if the last one is missing, or how else
        self.thread: threading.Thread | None = None

    def wait(self, event: str, count: int = 1, bound_s: float = BOUND_S) -> list[Frame]:
        """All frames, once there are ``count`` of ``event``."""
        wait_for(
            lambda: sum(frame.event == event for frame in self.frames) >= count or self.ended,
            bound_s,
            f"{count} of {event} in {self.frames[-5:]}",
        )
        assert sum(frame.event == event for frame in self.frames) >= count, (self.ended, self.head, self.frames[-5:])
        return list(self.frames)

    def close(self) -> None:
        self._hang_up()
        if self.thread is not None:
            self.thread.join(BOUND_S)
        self.sock.close()

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with self.sock.makefile("rb") as stream:
                self._read(stream)
        except (OSError, ValueError) as error:
            self.ended = f"{type(error).__name__}: {error}"
        self._hang_up()  # as a browser does; a server of TLS waits for it

    def _read(self, stream: Any) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                self.ended = "within the head"
                return
            head += line
        self.head = head.decode("latin-1")
        body = (
            self._chunks(stream)
            if "transfer-encoding: chunked" in self.head.lower()
            else iter(lambda: stream.read1(65536), b"")
        )
        for part in body:
            self.take(part, time.time_ns() // 1_000)
        self.ended = self.ended or "cleanly"

    def _chunks(self, stream: Any) -> Iterator[bytes]:
        while True:
            size = stream.readline()
            if not size:
                self.ended = "between chunks"
                return
            length = int(size, 16)
            chunk = stream.read(length + 2)
            if len(chunk) < length + 2:
                self.ended = "within a chunk"
                return
            if length == 0:
                return
            yield chunk[:-2]


def open_stream(
    server: ServerProcess, path: str = "/events", *, last_id: str = "", version: str = "1.1", headers: str = "",
    extra: bytes = b"", body: object = None,
    receive_buffer: int = 0, wrap: Callable[[socket.socket], socket.socket] = lambda sock: sock,
) -> StreamReader:  # fmt: skip
    """Connects and reads in the background. ``headers`` are further lines, and ``extra`` is sent right behind the
    request. With a ``body``, the request is a POST with this JSON."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", server.port))
    sock = wrap(sock)
    if last_id:
        headers += f"Last-Event-ID: {last_id}\r\n"
    method, sent = "GET", b""
    if body is not None:
        method, sent = "POST", json.dumps(body).encode()
        headers += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
    sock.sendall(f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n".encode() + sent + extra)
    reader = StreamReader(sock)
    reader.start()
    return reader


@contextmanager
def streaming(server: ServerProcess, path: str = "/events", **options: Any) -> Iterator[StreamReader]:
    reader = open_stream(server, path, **options)
    try:
        yield reader
    finally:
        reader.close()
