"""``broker types``."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from broker.cli.main import main
from tests.support.commands import command, refused
from tests.support.servers import BOUND_S, ServerProcess, wait_for


@pytest.fixture(autouse=True)
def without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have logged in to another server."""
    monkeypatch.setenv("BROKER_TOKEN_FILE", "/nonexistent/token")


@pytest.fixture(name="own", scope="module")
def make_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of these tests alone, so that the types change only by their inserts."""
    with ServerProcess(tmp_path_factory.mktemp("own"), retry_ms=50) as server:
        yield server


@pytest.fixture(name="ada_here")
def make_client(own: ServerProcess) -> Iterator[httpx.Client]:
    with own.client("ada") as client:
        yield client


def insert(client: httpx.Client, event: str, data: object) -> None:
    client.post("/insert", json={"event": event, "data": data}).raise_for_status()


def run(server: ServerProcess, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["types", *arguments], env={"BROKER_URL": server.url} | environment)


def declared(file: Path, text: str) -> bool:
    return file.is_file() and text in file.read_text()


def interrupted(process: subprocess.Popen[str]) -> str:
    """What a command has printed on standard error when Ctrl-C ends it."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=BOUND_S)
    assert process.returncode == 130
    assert "Traceback" not in said
    return said


def test_it_prints_what_the_server_responds_and_needs_no_token(own: ServerProcess, ada_here: httpx.Client) -> None:
    insert(ada_here, "printed", {"é": 1})
    result = run(own)
    assert result.exit_code == 0, result.output
    assert result.stdout == ada_here.get("/types.d.ts").text
    assert '"printed": {\n    "é": number;\n  };' in result.stdout


def test_a_file_is_replaced_as_a_whole_and_only_if_the_types_have_changed(
    own: ServerProcess, ada_here: httpx.Client, tmp_path: Path
) -> None:
    insert(ada_here, "file", 1)
    file = tmp_path / "types.d.ts"
    first = run(own, "--out", str(file))
    assert (first.stdout, first.stderr) == ("", f"wrote {file}\n")
    assert file.read_text() == ada_here.get("/types.d.ts").text
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~_umask()
    before = file.stat()
    insert(ada_here, "file", 2)  # the same types
    again = run(own, "--out", str(file))
    assert (again.exit_code, again.output) == (0, "")
    assert file.stat() == before
    insert(ada_here, "file", "text")
    assert run(own, "--out", str(file)).exit_code == 0
    assert declared(file, '"file": string;')
    assert file.stat().st_ino != before.st_ino
    assert os.listdir(tmp_path) == ["types.d.ts"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_link_stays_a_link(own: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert run(own, "--out", str(tmp_path / "link")).exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert declared(tmp_path / "file", "interface BrokerEvents")


def test_a_file_that_cannot_be_written_is_named(own: ServerProcess, tmp_path: Path) -> None:
    for file, reason in ((tmp_path / "none" / "types.d.ts", "No such file"), (tmp_path, "Is a directory")):
        assert f"--out: cannot write {file}: {reason}" in refused(run(own, "--out", str(file)))


def test_a_refusal_ends_it(own: ServerProcess) -> None:
    for watch in ((), ("--watch",)):
        assert "401" in refused(run(own, *watch, BROKER_TOKEN="a.b.c"))


def test_without_watch_it_does_not_wait_for_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = CliRunner().invoke(main, ["types"], env={"BROKER_URL": f"http://127.0.0.1:{port}"})
    assert "is the server running there?" in refused(result)


def test_it_watches_and_writes_after_each_change_of_a_type(
    own: ServerProcess, ada_here: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "types.d.ts"
    insert(ada_here, "watched", 1)
    with command("types", "--watch", "--out", str(file), environment={"BROKER_URL": own.url}) as watching:
        assert watching.stderr is not None
        assert watching.stderr.readline() == f"wrote {file}\n"
        assert declared(file, '"watched": number;')
        insert(ada_here, "watched", 2)
        insert(ada_here, "watched", {"a": 1})
        assert watching.stderr.readline() == f"wrote {file}\n"
        assert declared(file, '"watched": {\n    "a": number;\n  };')
        assert interrupted(watching) == ""
    assert os.listdir(tmp_path) == ["types.d.ts"]


def test_it_prints_again_after_each_change(own: ServerProcess, ada_here: httpx.Client) -> None:
    insert(ada_here, "again", 1)
    with command("types", "--watch", environment={"BROKER_URL": own.url}) as watching:
        assert watching.stdout is not None
        first, second = [""], [""]
        for lines, data in ((first, "text"), (second, None)):
            while lines[-1] != "}\n":
                lines.append(watching.stdout.readline())
                assert lines[-1], watching.stderr and watching.stderr.read()  # it has ended
            if data is not None:
                insert(ada_here, "again", data)
        assert interrupted(watching) == ""
    assert '  "again": number;\n' in first
    assert '  "again": string;\n' in second


def test_it_writes_while_there_are_records_all_the_time(
    own: ServerProcess, ada_here: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "types.d.ts"
    insert(ada_here, "busy", 1)
    with command("types", "--watch", "--out", str(file), environment={"BROKER_URL": own.url}) as watching:
        wait_for(lambda: declared(file, '"busy": number;'))

        def written() -> bool:
            insert(ada_here, "busy", "text")
            return declared(file, '"busy": string;')

        wait_for(written)
        interrupted(watching)


def test_it_survives_a_restart_of_the_server_and_waits_for_its_start(tmp_path: Path) -> None:
    file = tmp_path / "types.d.ts"
    with ServerProcess(tmp_path / "data", retry_ms=50) as server:
        server.stop()
        with command("types", "--watch", "--out", str(file), environment={"BROKER_URL": server.url}) as watching:
            assert watching.stderr is not None
            assert "is the server running there?" in watching.stderr.readline()
            server.start()
            wait_for(lambda: declared(file, "BrokerEvents {\n}"))
            server.stop(signal.SIGKILL)
            server.start()
            with server.client("ada") as client:
                insert(client, "restarted", 1)
                wait_for(lambda: declared(file, '"restarted": number;'))
            said = interrupted(watching)
    assert "connecting again in" in said
