"""Proxies in processes of their own, on the loopback interface, each in front of a port of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.servers import ServerProcess, StreamReader, wait_for

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "proxies"  # the settings that docs/proxies.md shows
SCALING = ROOT / "docs" / "scaling"  # and those of docs/scaling.md
CONFIGS = Path(__file__).parent / "configs"  # others, that people have
UPSTREAMS = ("127.0.0.1:8080", "10.0.0.1:8080", "10.0.0.2:8080")  # where these files expect Broker
START_S = 90.0  # Next compiles before it serves
_ATTEMPTS = 3  # a port that was free may be taken by the time that a proxy binds it


@dataclass
class Proxy:
    """A proxy's process. ``config`` is a file that is fit for a user; ports alone are changed for the test."""

    name: str
    config: Path
    folder: Path
    scheme: str = "http"
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    program = ""  # of each kind
    listening = ""  # a pattern: how the file says where it listens

    @property
    def prefix(self) -> str:
        """What the proxy takes away from an address."""
        return "/live" if self.config.name == "nginx-prefix.conf" else ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{self.prefix}"

    def start(self, upstream: str) -> Self:
        """Returns once it serves. ``upstream`` is Broker's host and port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            self.port = free_port()
            with (self.folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    self.command(self.fitted(upstream)),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cwd(), env=self.environment(),
                    start_new_session=True,  # so that it can be stopped with the processes that it starts
                )  # fmt: skip
            wait_for(lambda: self._serves() or self.process.poll() is not None, START_S, f"the start of {self.name}")
            if self.process.poll() is None:
                return self
        raise AssertionError(f"{self.name} ended: {self.log()}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4_000:]

    def _serves(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def fitted(self, upstream: str) -> str:
        """The file with Broker's port and its own in it."""
        text, found = re.subn(self.listening, lambda _: self.listens(), with_upstream(self.config, upstream))
        assert found == 1, self.config
        return text

    def listens(self) -> str:
        raise NotImplementedError

    def command(self, config: str) -> list[str]:
        raise NotImplementedError

    def cwd(self) -> Path:
        return self.folder

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # Its own session: the group has no other process in it. It may have ended by itself.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Nginx(Proxy):
    program = "nginx"
    listening = "listen 80;"

    def listens(self) -> str:
        return f"listen 127.0.0.1:{self.port};"

    def command(self, config: str) -> list[str]:
        temporary = "\n".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = (
            f"daemon off; master_process off; pid {self.folder}/pid; error_log stderr;\n"
            f"events {{ worker_connections 200; }}\nhttp {{ access_log off; {temporary}\n{config} }}\n"
        )
        return [need("nginx"), "-e", "stderr", "-p", str(self.folder), "-c", str(self.write("nginx.conf", whole))]


class Caddy(Proxy):
    program = "caddy"
    listening = r"(?m)^(:80|live\.example) \{\n"

    def listens(self) -> str:
        return f"http://:{self.port} {{\n\tbind 127.0.0.1\n"

    def command(self, config: str) -> list[str]:
        # No port of its own for its administration, and no certificates.
        file = self.write("Caddyfile", "{\n\tadmin off\n\tauto_https off\n}\n" + config)
        return [need("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]

    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}


class HAProxy(Proxy):
    program = "haproxy"
    listening = "bind :80"

    def listens(self) -> str:
        return f"bind 127.0.0.1:{self.port}"

    def command(self, config: str) -> list[str]:
        answer = self.write("retry.http", (DOCS / "retry.http").read_text().replace("2000", "0100"))
        config = config.replace("/etc/haproxy/retry.http", str(answer))
        return [need("haproxy"), "-db", "-f", str(self.write("haproxy.cfg", config))]


def with_upstream(config: Path, upstream: str) -> str:
    """The file with Broker's host and port in it, and less patience in the answers that a proxy gives in its place."""
    text = config.read_text().replace("retry: 2000", "retry: 0100")
    assert any(each in text for each in UPSTREAMS), config
    for each in UPSTREAMS:
        text = text.replace(each, upstream)
    return text


def installed(program: str) -> str:
    """Where the program is, or nothing; where CI is set, it must be there."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # often not in a user's path
    assert found or not os.environ.get("CI"), f"CI is set, and there is no {program}"
    return found or ""


def need(program: str) -> str:
    """Where the program is. Without it the test is skipped."""
    found = installed(program)
    if not found:
        pytest.skip(f"{program.upper()} WAS NOT TESTED: install it (Debian: apt install {program})")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Stream(StreamReader):
    """A stream that came through a proxy, which may have compressed it."""

    @property
    def status(self) -> int:
        """0 as long as there is no answer."""
        found = re.match(r"HTTP/1\.1 (\d+)", self.head)
        return int(found[1]) if found else 0

    def _chunks(self, stream: Any) -> Iterator[bytes]:
        inflater = zlib.decompressobj(31) if "content-encoding: gzip" in self.head.lower() else None
        for chunk in super()._chunks(stream):
            yield chunk if inflater is None else inflater.decompress(chunk)


def through(
    server: Proxy | ServerProcess, *, last_id: str = "", source: str = "127.0.0.1", cache: str = "no-cache"
) -> Stream:
    """What an EventSource sends: it takes compressed answers, and keeps its connection. ``source``: who sends it."""
    prefix = server.prefix if isinstance(server, Proxy) else ""
    resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    sock = socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0))
    sock.sendall(
        f"GET {prefix}/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: text/event-stream\r\n"
        f"Accept-Encoding: gzip, br\r\nCache-Control: {cache}\r\nConnection: keep-alive\r\n{resume}\r\n".encode()
    )
    reader = Stream(sock)
    reader.start()
    return reader
