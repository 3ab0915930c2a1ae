"""Brings Broker and its peers up, one at a time, on loopback, and reads what they cost.

Each server is a context manager that yields a running ``Server``. All of its files and its log are in the folder that
the caller gives. Linux only: the costs are read from the kernel's accounting of the server's own processes.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError
from broker.cli.operator import operator
from broker.names import RULES_EVENT

START_S, STOP_S, CALL_S = 15.0, 10.0, 10.0
PEERS = Path(__file__).parent / "peers"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"  # often not in a user's path
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
POCKETBASE = shutil.which("pocketbase", path=sysconfig.get_path("scripts")) or "pocketbase"
USER, MAIL, ADMIN, PASSWORD = "bench", "bench@example.com", "admin@example.com", "a long enough one"
Kind = Literal["starlette", "sse-starlette"]


@dataclass
class Server:
    """A running server. Costs are sums over its process and all the descendants that run now."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Its processes. Each server leads its own session; Broker's workers have sessions of their own."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with status {self.process.returncode}:\n{self.log_tail()}")
        return family(self.process.pid)

    def cpu_s(self) -> float:
        """User and system seconds so far."""
        return cpu_s(self.pids())

    def user_s(self) -> float:
        """User seconds so far. As ``system_s`` in ticks: the kernel tells no finer how the time is split."""
        return self._ticks(11)

    def system_s(self) -> float:
        return self._ticks(12)

    def _ticks(self, field: int) -> float:
        return sum(int(stat[field]) for stat in map(_stat, self.pids()) if stat) / os.sysconf("SC_CLK_TCK")

    def rss_kb(self) -> int:
        """Resident memory. Pages that processes share count in each, as in nginx's master and worker."""
        total = 0
        for pid in self.pids():
            with suppress(OSError, IndexError):  # a process that just ended has no such line
                total += int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])
        return total

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def stop(self) -> None:
        """Ask it to end; after a while kill it with its descendants."""
        self.process.terminate()  # does nothing if it has ended
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # not yet waited for: the group is surely still its own
            self.process.wait()


def family(leader: int) -> list[int]:
    """A process, its children, and those of its session."""
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return [pid for pid in pids if pid == leader or str(leader) in _stat(pid)[1:4]]


def cpu_s(pids: list[int]) -> float:
    """User and system seconds of processes so far, far finer than the kernel's ticks of 10 ms.

    Read from the CPU clock of each process. A sum over ``schedstat`` would lose the threads that have ended.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # it ended just now
            total += time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3); Python has only the threads'
    return total


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from ``state`` on (so ``utime`` is 11); none if the process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may have spaces
    return []


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _start(command: list[str], log: Path, cpus: set[int] | None, more: dict[str, str]) -> subprocess.Popen[bytes]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited; often 1,024, and a subscriber needs one
    before = os.sched_getaffinity(0)
    # A child starts on its parent's processors, so a server that counts them when it starts sees only its own.
    os.sched_setaffinity(0, cpus or before)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | more,
                start_new_session=True,  # tells its descendants from all else; Ctrl-C reaches the benchmark alone
            )  # fmt: skip
    except OSError as error:
        raise BenchError(str(error)) from None
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _run(name: str, command: list[str], port: int, folder: Path, cpus: set[int] | None, **env: str) -> Iterator[Server]:
    log = folder / f"{name}.log"
    server = Server(name, port, _start(command, log, cpus, env), log)
    try:
        _wait(server)
        yield server
    finally:
        server.stop()


def _wait(server: Server) -> None:
    """Wait for an answer, of whatever status. A connection is not enough: nginx listens before its worker runs."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        server.pids()  # raises if it has ended
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            if connection.recv(1):
                return
        time.sleep(0.02)
    raise BenchError(f"{server.name} does not answer after {START_S:.0f} s:\n{server.log_tail()}")


def _call(server: Server, method: str, path: str, body: Any, token: str = "") -> Any:
    """``body``: text as it is, or what becomes JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=CALL_S)) as connection:
        connection.request(method, path, body if isinstance(body, str) else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    if response.status >= 300:
        raise BenchError(f"{server.name}: {method} {path} answered {response.status}: {answer[:1000]!r}")
    return json.loads(answer)


# Options for Broker, if one user inserts, or schedules, more than is for one user.
MANY_NAMES = ("--set", "event_names_per_user_max=100000", "--set", "pending_per_user_max=100000")


def broker(
    folder: Path, *options: str, cpus: set[int] | None = None, inside: str = "", source: Path | None = None
) -> AbstractContextManager[Server]:
    """Broker; ``options`` go to ``broker serve``. ``inside``: as ``bench/inside.py`` changes it. ``source``: of another
    version, in place of the one that is installed."""
    port = _free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--data", str(folder / "data")]
    module = ["bench.inside", inside] if inside else ["broker"]
    command = [sys.executable, "-m", *module, "serve", *address, *options]
    environment = {"PYTHONPATH": str(source.resolve())} if source else {}
    return _run("broker", command, port, folder, cpus, **environment)


def broker_token(server: Server, new: bool = True, user: str = USER) -> str:
    """Log in; a ``new`` user, once for each folder, signs up first."""
    if new:
        _call(server, "POST", "/users", {"username": user, "password": PASSWORD})
    return str(_call(server, "POST", "/login", {"username": user, "password": PASSWORD})["jwt"])


def apply_rules(folder: Path, toml: str) -> None:
    """Rules for the server that runs in this folder, over its operator's socket."""
    with operator(folder / "data", None, None) as ask:
        ask.json("POST", "/insert", {"event": RULES_EVENT, "data": {"format": 1, "toml": toml}})


def insert_all(server: Server, token: str, records: list[str]) -> None:
    """One batch of records, each as JSON."""
    _call(server, "POST", "/insert", "[" + ",".join(records) + "]", token)


def nchan(folder: Path, cpus: set[int] | None = None) -> AbstractContextManager[Server]:
    """nginx with Nchan: publish to ``/pub/<channel>``, subscribe at ``/sub/<channel>``."""
    port = _free_port()
    folder = folder.resolve()
    text = (PEERS / "nchan.conf").read_text().replace("@MODULE@", str(NCHAN_MODULE))
    (folder / "nchan.conf").write_text(text.replace("@PORT@", str(port)).replace("@FOLDER@", str(folder)))
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nchan.conf"), "-e", str(folder / "nchan.log")]
    return _run("nchan", command, port, folder, cpus)


def starlette(folder: Path, kind: Kind, cpus: set[int] | None = None) -> AbstractContextManager[Server]:
    """Publish to ``/publish``, subscribe at ``/events``. The same event loop and HTTP parser as Broker's."""
    port = _free_port()
    # Without the bound a stream that is still open keeps it from stopping.
    options = "--loop uvloop --http httptools --workers 1 --no-access-log --log-level warning"
    options += f" --timeout-graceful-shutdown 1 --host 127.0.0.1 --port {port} starlette_app:app"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PEERS), *options.split()]
    return _run(kind, command, port, folder, cpus, SSE_KIND=kind)


@contextmanager
def pocketbase(folder: Path, cpus: set[int] | None = None) -> Iterator[Server]:
    """PocketBase. Its user may insert into the collection ``events`` (``event``, ``data``), which all may read."""
    port = _free_port()
    at = ["--dir", str(folder / "pb_data"), "--automigrate=false"]  # else it writes each change as a source file
    _output(POCKETBASE, "superuser", "upsert", ADMIN, PASSWORD, *at)
    with _run("pocketbase", [POCKETBASE, "serve", "--http", f"127.0.0.1:{port}", *at], port, folder, cpus) as server:
        admin = {"identity": ADMIN, "password": PASSWORD}
        token = str(_call(server, "POST", "/api/collections/_superusers/auth-with-password", admin)["token"])
        _call(server, "PATCH", "/api/settings", {"logs": {"maxDays": 0}}, token)  # the others log no requests either
        user = {"email": MAIL, "password": PASSWORD, "passwordConfirm": PASSWORD}
        _call(server, "POST", "/api/collections/users/records", user, token)
        fields = [{"name": "event", "type": "text", "required": True}, {"name": "data", "type": "json"}]
        rules = {"createRule": '@request.auth.id != ""', "listRule": "", "viewRule": ""}  # "" is anyone
        _call(server, "POST", "/api/collections", {"name": "events", "type": "base", "fields": fields, **rules}, token)
        yield server


def pocketbase_token(server: Server) -> str:
    login = {"identity": MAIL, "password": PASSWORD}
    return str(_call(server, "POST", "/api/collections/users/auth-with-password", login)["token"])


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{error}: {getattr(error, 'stderr', '')}") from None
    return (done.stdout + done.stderr).strip()


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def _nchan_version() -> str:
    NCHAN_MODULE.stat()  # raises if it is not there
    package = _output("dpkg-query", "-W", "-f=${Version}", "libnginx-mod-nchan")
    return f"Nchan {package.partition(':')[2].partition('+')[0]}, nginx {_output(NGINX, '-v').rpartition('/')[2]}"


def available() -> dict[str, str | None]:
    """Each peer's version; None for a peer that cannot be run here."""
    readers: dict[str, Callable[[], str]] = {
        "nchan": _nchan_version,
        "starlette": lambda: _versions("starlette", "uvicorn"),
        "sse-starlette": lambda: _versions("sse-starlette", "starlette", "uvicorn"),
        "pocketbase": lambda: _output(POCKETBASE, "--version").rpartition(" ")[2],
    }
    found: dict[str, str | None] = dict.fromkeys(readers)
    for name, read in readers.items():
        with suppress(Exception):  # whatever is wrong with a peer, the others can still be run
            found[name] = read()
    return found
