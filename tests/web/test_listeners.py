"""Where Broker listens, and what it says where it cannot."""

from __future__ import annotations

import errno
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.server.listeners import address_of, bind
from broker.settings import Settings
from tests.support.operators import broker, stderr_of
from tests.support.servers import ServerProcess


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(stack: ExitStack, settings: Settings, *, shared: bool = False) -> list[socket.socket]:
    return [stack.enter_context(closing(each)) for each in bind(settings, shared=shared)]


def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as refused:
        bind(settings)
    return refused.value.detail


def has_version_6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_version_6 = pytest.mark.skipif(not has_version_6(), reason="this machine has no IPv6")


@needs_version_6
@pytest.mark.parametrize("shared", [False, True])
def test_localhost_listens_on_both_of_its_addresses_with_one_port(stack: ExitStack, shared: bool) -> None:
    settings = Settings(host="localhost", port=0)
    listeners = bound(stack, settings, shared=shared)
    assert [each.getsockname()[0] for each in listeners] == ["127.0.0.1", "::1"]
    (port,) = {each.getsockname()[1] for each in listeners}
    assert address_of(settings, listeners) == f"http://localhost:{port}"
    if shared:
        again = bound(stack, Settings(host="localhost", port=port), shared=True)
        assert [each.getsockname() for each in again] == [each.getsockname() for each in listeners]


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_kind_of_address_that_the_machine_lacks_is_left_out(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class WithoutVersion6(socket.socket):
        def __init__(self, family: int = -1, *more: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(number, "this machine has none")
            super().__init__(family, *more)

    monkeypatch.setattr(socket, "socket", WithoutVersion6)
    listeners = bound(stack, Settings(host="localhost", port=0))
    assert [each.getsockname()[0] for each in listeners] == ["127.0.0.1"]
    assert "host (argument): cannot listen on ::1 port" in refusal(Settings(host="::1"))


@needs_version_6
def test_an_ipv6_address_may_stand_in_brackets_and_two_colons_are_ipv4_too(stack: ExitStack) -> None:
    (listener,) = bound(stack, Settings(host="[::1]", port=0))
    assert listener.getsockname()[0] == "::1"
    (listener,) = bound(stack, Settings(host="::", port=0))
    listener.listen()
    stack.enter_context(closing(socket.create_connection(("127.0.0.1", listener.getsockname()[1]))))
    accepted, peer = listener.accept()
    stack.enter_context(accepted)
    assert peer[0] == "::ffff:127.0.0.1"


def test_a_port_in_use_is_said_with_the_source_of_the_port(stack: ExitStack) -> None:
    port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
    settings = Settings(port=port, sources={"port": "BROKER_PORT"})
    assert refusal(settings) == (
        f"port (BROKER_PORT): cannot listen on 127.0.0.1 port {port}: another program uses it; "
        "stop that program, or choose another --port"
    )


@needs_version_6
def test_a_free_port_is_free_at_all_addresses(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port that 127.0.0.1 gets first is in use at ::1."""
    given: list[int] = []

    class Unlucky(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and len(given) < 2:
                given.append(address[1])
                raise OSError(errno.EADDRINUSE, "in use")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Unlucky)
    four, six = bound(stack, Settings(host="localhost", port=0))
    assert four.getsockname()[1] == six.getsockname()[1]
    assert len(given) == 2


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.1", "this machine does not have this address"),
        ("no-such-name.invalid", "not a name that this machine knows"),
        ("a b", "not a name that this machine knows"),
        ("x" * 70, "not a name that this machine knows"),
        ("..", "not a name that this machine knows"),
        ("256.1.1.1", "not a name that this machine knows"),
    ],
)
def test_a_host_that_is_none_of_this_machine_is_said(host: str, says: str) -> None:
    said = refusal(Settings(host=host, port=0))
    assert said.startswith("host (argument): ")
    assert says in said
    assert "--port" not in said


def test_a_port_that_needs_a_right_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:  # root may, and so may everybody in some containers
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse, raising=False)
    said = refusal(Settings(port=80))
    assert said.startswith("port (argument): cannot listen on 127.0.0.1 port 80: a port below 1024 needs a privilege")


def test_too_few_open_files_are_refused_at_start(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    said = stderr_of(broker("serve", "--port", 0, "--data", tmp_path / "data", before=few), 1)
    for advice in ("the limit of open files is 100", "ulimit -n", "LimitNOFILE=", "--ulimit nofile="):
        assert advice in said
    assert not (tmp_path / "data").exists()


def test_a_hang_up_neither_ends_the_server_nor_its_streams(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--host", "localhost") as server, server.client() as client:
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("SIGHUP: there is nothing to reload")
        assert client.get("/healthz").status_code == 200
        assert server.stop() == 0


def test_a_hang_up_at_any_time_of_the_start_does_not_end_the_server(tmp_path: Path) -> None:
    """From the first line of the command on: in the middle of its start it is a shell that hangs up."""
    script = (
        "import os, signal\n"
        "from broker.cli import serve as cli\n"
        "read = cli.read_settings\n"
        "def hang_up(*given, **more):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return read(*given, **more)\n"
        "cli.read_settings = hang_up\n"
        "cli.serve(['--port', '0'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert any("serves on" in line for line in server.stderr)
        server.terminate()
        assert server.wait(20) == 0
