"""The documentation says all that there is, and what it says works."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from playwright.sync_api import Browser

from broker import errors
from broker.cli.main import main
from broker.settings import Settings
from broker.web.app import create_app
from broker.web.requests import Methods
from tests.support.documents import HTTP, README, ROOT, Shell, blocks, section
from tests.support.hosts import HostProcess
from tests.support.servers import ServerProcess, streaming
from tests.support.typescript import STRICT, compiled, install, needs_react, needs_typescript

CLI = (ROOT / "docs" / "cli.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/**/*.md"))


class TestComplete:
    @pytest.mark.parametrize("route", create_app(Settings()).routes, ids=lambda route: str(route.path))
    def test_every_route_and_method_is_documented(self, route: Any) -> None:
        assert isinstance(route.app, Methods)
        assert "`HEAD` is answered wherever `GET` is" in HTTP
        for method in route.app.endpoints.keys() - {"HEAD"}:
            assert f"`{method} {route.path.replace(':path', '')}`" in HTTP

    def test_every_error_is_documented(self) -> None:
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
        for kind in kinds:
            if kind is not errors.SettingsError:  # never sent
                assert issubclass(kind, errors.BrokerError)
                assert f"| {kind.status} | `{kind.code}` |" in HTTP

    def test_every_metric_is_documented(self, ada: httpx.Client) -> None:
        kinds = re.findall(r"^# TYPE (\w+) (\w+)$", ada.get("/metrics").text, re.MULTILINE)
        assert kinds
        assert re.findall(r"^\| `(broker_\w+)` \| (\w+) \|", HTTP, re.MULTILINE) == kinds

    def test_every_field_of_a_record_is_documented(self, ada: httpx.Client) -> None:
        record = ada.post("/insert", json={"event": "documented", "data": 1}).json()
        (example,) = [json.loads(block.text) for block in blocks(HTTP, "json") if '"inserted_at"' in block.text]
        assert list(example) == list(record)

    def test_the_page_of_settings_is_what_the_source_says(self) -> None:
        made = subprocess.run([sys.executable, ROOT / "docs" / "make_settings.py"], capture_output=True, check=True)
        assert made.stdout.decode() == (ROOT / "docs" / "settings.md").read_text(), "type: make docs"

    def test_every_command_and_option_is_documented(self) -> None:
        for path, each in _commands("broker", main):
            assert f"# {path}\n" in CLI
            assert each.help, path
            for parameter in each.params:
                if isinstance(parameter, click.Option) and parameter.name != "help":
                    option = next(name for name in parameter.opts if name.startswith("--"))
                    assert re.search(rf"`{option}[ `]", CLI), f"{path} {option}"
                    assert parameter.help, f"{path} {option}"
                    if parameter.envvar:
                        assert f"| `{option}` | `{parameter.envvar}` |" in CLI

    def test_every_command_has_an_example_that_it_takes(self) -> None:
        examples = [line for block in blocks(README + CLI, "", "sh") for line in block.text.splitlines()]
        taken = set()
        for line in examples:
            if line.startswith("broker "):
                words = _words(line)
                assert "--help" not in words
                context: click.Context | None = None
                command: click.Command = main
                while isinstance(command, click.Group):
                    found = command.get_command(click.Context(command), words.pop(0))
                    assert found is not None, line
                    command, context = found, click.Context(command, context)
                # Raises for an option that does not exist, and for one argument too many.
                command.make_parser(click.Context(command, context)).parse_args(words)
                taken.add(command)
        assert taken == {each for _, each in _commands("broker", main)}


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each is not None
            assert each.name == name
            yield from _commands(f"{path} {name}", each)
    else:
        yield path, command


def _words(line: str) -> list[str]:
    """What the shell makes of a line, up to a pipe or a redirection, without `broker`."""
    words = subprocess.run(
        ["sh", "-c", f"broker() {{ printf '%s\\n' \"$@\"; }}\n{re.split(' [|<] ', line)[0]}"],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    return words.splitlines()


def test_the_first_ten_minutes_work_as_typed(tmp_path: Path) -> None:
    title = "The first ten minutes"
    log_in, listen, insert, later, cancel, remove, log = (block.text for block in blocks(section(README, title), "sh"))
    home = tmp_path / "home"
    home.mkdir()
    with ServerProcess(tmp_path / "data") as server:
        here = os.environ | {"HOME": str(home), "BROKER_URL": server.url}
        broker = f'broker() {{ "{sys.executable}" -m broker "$@"; }}\n'  # in place of .venv/bin/broker
        shell = Shell(here)
        shell.type(broker)

        def typed(commands: str) -> list[Any]:
            return [json.loads(line) for line in shell.type(commands.strip()).splitlines()]

        assert [user["username"] for user in typed(log_in)] == ["ada"]
        assert listen.splitlines()[0] == log_in.splitlines()[0]
        listener = subprocess.Popen(
            ["sh", "-c", f"{broker}{listen.replace('broker listen', 'broker listen --count 4')}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=here,
        )  # fmt: skip
        with listener:
            assert listener.stdout is not None
            printed = (json.loads(line) for line in listener.stdout)
            assert next(printed)["event"] == "$ready"
            assert typed(insert)[0]["data"] == {"first_name": "Rusty"}
            assert next(printed)["data"] == {"first_name": "Rusty"}
            (pending,) = typed(later)
            assert pending["timestamp"] - pending["inserted_at"] <= 5
            inserted, *waiting, cancelled = typed(cancel)
            assert inserted in waiting
            assert (inserted["cancelled"], cancelled["cancelled"]) == (False, True)
            assert inserted["uuid"] == cancelled["uuid"]
            note, removal, *state = typed(remove)
            assert (note["data"], removal["data"]) == ("lunch", None)
            assert "user" in [record["event"] for record in state]
            assert "note" not in [record["event"] for record in state]
            assert [record["data"]["percent"] for record in typed(log)] == [20, 90]
            rest = [next(printed)["data"] for _ in range(3)]  # the sale comes five seconds after its insert
            assert [data for data in rest if data != {"percent": 20}] == ["lunch", None]
        shell.close()


@pytest.mark.skipif(
    shutil.which("curl") is None and not os.environ.get("CI"),
    reason="THE COMMANDS OF CURL WERE NOT TESTED: install curl (Debian: apt install curl)",
)
def test_the_commands_of_curl_work_as_typed(tmp_path: Path) -> None:
    sign_up, log_in, listen, insert, later, hour_later, cancel, log, batch = (
        block.text for block in blocks(section(README, "With curl"), "sh")
    )
    with ServerProcess(tmp_path) as server:
        shell = Shell()

        def typed(command: str) -> Any:
            assert "127.0.0.1:8080" in command
            printed = shell.type(command.strip().replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"))
            return json.loads(printed) if printed else None

        tokens = []
        for command in (sign_up, log_in):  # whoever has signed up needs no login: either keeps a token
            assert typed(command) is None
            tokens.append(shell.type('echo "$TOKEN"'))
            me = httpx.get(f"{server.url}/users/me", headers={"Authorization": f"Bearer {tokens[-1]}"})
            assert me.json()["username"] == "ada"
        assert tokens[0] != tokens[1]
        heard = subprocess.Popen(
            ["sh", "-c", "exec " + listen.replace("8080", str(server.port))],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with heard:
            assert heard.stdout is not None
            assert _next_event(heard.stdout)[0] == "$ready"
            assert typed(insert)["data"] == {"first_name": "Rusty"}
            assert _next_event(heard.stdout) == ("user", '{"first_name":"Rusty"}')
            pending = typed(later)
            assert (pending["published"], pending["event"]) == (False, "sale")
            assert 0 < pending["timestamp"] - pending["inserted_at"] <= 5
            assert typed(hour_later) is None
            cancelled = typed(cancel)
            assert (cancelled["cancelled"], cancelled["data"]) == (True, {"percent": 90})
            assert [(record["data"]["percent"], record["cancelled"]) for record in typed(log)] == [
                (20, False),
                (90, True),
            ]
            assert _next_event(heard.stdout) == ("sale", '{"percent":20}')
            assert [record["data"] for record in typed(batch)] == [{"first_name": "Ada"}, {"percent": 10}]
            assert _next_event(heard.stdout) == ("user", '{"first_name":"Ada"}')
            assert _next_event(heard.stdout) == ("sale", '{"percent":10}')
            heard.terminate()
        shell.close()


def _next_event(lines: Iterator[str]) -> tuple[str, str]:
    for line in lines:
        if line.startswith("event: "):
            return line[7:].strip(), next(lines)[6:].strip()
    raise AssertionError("the stream ended")


def test_the_javascript_of_the_readme_runs_in_a_browser(tmp_path: Path, browser: Browser) -> None:
    script = next(block.text for block in blocks(README, "js") if "fetch" in block.text)
    assert len(script.strip().splitlines()) <= 12
    with ServerProcess(tmp_path) as server, server.client("ada"), browser.new_page() as tab:
        tab.goto(f"{server.url}/docs")
        with tab.expect_console_message(lambda message: message.text.startswith("user is now"), timeout=20_000):
            tab.add_script_tag(content=script.replace("http://127.0.0.1:8080", server.url), type="module")


# What Vite gives to modules.
VITE = "interface ImportMeta { env: { DEV: boolean }; hot?: { data: any } }\n"


@needs_typescript
@needs_react
def test_the_page_in_react_compiles_in_a_strict_typescript_project(tmp_path: Path) -> None:
    (client,), (page,) = blocks(section(README, "With Vite"), "ts"), blocks(README, "tsx")
    install(tmp_path)
    for name, text in (("broker.ts", client.text), ("App.tsx", page.text), ("vite.d.ts", VITE)):
        (tmp_path / name).write_text(text)
    strict = ("--verbatimModuleSyntax", "--noUnusedLocals", "--noUnusedParameters", "--noUncheckedIndexedAccess")
    assert compiled(tmp_path, *STRICT, *strict, "broker.ts", "App.tsx", "vite.d.ts") == ""


def test_the_page_that_watches_for_heartbeats_opens_a_new_stream_when_none_comes(
    tmp_path: Path, browser: Browser
) -> None:
    (script,) = [block.text for block in blocks(HTTP, "js") if "heartbeat" in block.text]
    with (
        ServerProcess(tmp_path, heartbeat_s=0.2) as server,
        server.client("ada") as ada,
        browser.new_page() as tab,
    ):
        tab.goto(f"{server.url}/docs")
        told: list[str] = []
        tab.on("console", lambda message: told.append(message.text) if message.type == "log" else None)
        first = ada.post("/insert", json={"event": "user", "data": "first"}).json()["id"]
        script = script.replace("http://127.0.0.1:8080", server.url).replace("every = 15", "every = 0.3")
        with tab.expect_console_message(lambda message: message.text == "first", timeout=20_000):
            tab.add_script_tag(content=script, type="module")
        server.process.send_signal(signal.SIGSTOP)  # as good as a network that is gone: nothing comes any more
        with tab.expect_request(lambda request: f"last_event_id={first}" in request.url, timeout=20_000):
            pass
        server.process.send_signal(signal.SIGCONT)
        with tab.expect_console_message(lambda message: message.text == "second", timeout=20_000):
            ada.post("/insert", json={"event": "user", "data": "second"})
        assert told == ["first", "second"]


def test_the_page_that_reads_records_receives_every_event_of_its_prefix(tmp_path: Path, browser: Browser) -> None:
    (script,) = [block.text for block in blocks(HTTP, "js") if "frames=record" in block.text]
    with ServerProcess(tmp_path) as server, server.client("ada") as ada, browser.new_page() as tab:
        tab.goto(f"{server.url}/docs")
        ada.post("/insert", json=[{"event": "orders/1", "data": 1}, {"event": "user", "data": 2}])
        told: list[str] = []
        tab.on("console", lambda message: told.append(message.text) if message.type == "log" else None)
        with tab.expect_console_message(lambda message: message.text == "orders/1 null 1", timeout=20_000):
            with tab.expect_console_message(lambda message: message.text == "orders/1 1 1", timeout=20_000):
                tab.add_script_tag(content=script.replace("http://127.0.0.1:8080", server.url), type="module")
            ada.post("/insert", json=[{"event": "orders/2", "data": 3}, {"event": "orders/1", "data": None}])
        assert told == ["orders/1 1 1", "orders/2 3 2", "orders/1 null 1"]


def test_the_page_that_reads_the_state_and_then_the_stream_misses_nothing(tmp_path: Path, browser: Browser) -> None:
    (script,) = [block.text for block in blocks(HTTP, "js") if "/snapshot" in block.text]
    script += 'source.addEventListener("todo/2", e => console.log("todo/2", JSON.parse(e.data)));\n'
    with ServerProcess(tmp_path) as server, server.client("ada") as ada, browser.new_page() as tab:
        tab.goto(f"{server.url}/docs")
        ada.post("/insert", json=[{"event": "todo/1", "data": 1}, {"event": "todo/2", "data": 2}])
        told: list[str] = []
        tab.on("console", lambda message: told.append(message.text) if message.type == "log" else None)
        with tab.expect_console_message(lambda message: message.text == "todo/2 3", timeout=20_000):
            with tab.expect_console_message(lambda message: message.text == "todo/2 2", timeout=20_000):
                tab.add_script_tag(content=script.replace("http://127.0.0.1:8080", server.url), type="module")
            ada.post("/insert", json={"event": "todo/2", "data": 3})
        assert told == ["todo/1 1", "todo/2 2", "todo/2 3"]


def test_the_page_that_merges_inserts_until_nobody_was_faster(tmp_path: Path, browser: Browser) -> None:
    (loop,) = [block.text for block in blocks(HTTP, "js") if "if_latest" in block.text]
    post = next(block.text for block in blocks(README, "js") if "fetch" in block.text)
    post = (
        post.partition("async function post")[1] + post.partition("async function post")[2].partition("\n}\n")[0] + "}"
    )
    with ServerProcess(tmp_path) as server, server.client("ada") as ada, browser.new_page() as tab:
        tab.goto(f"{server.url}/docs")
        token = ada.headers["Authorization"].removeprefix("Bearer ")
        version = ada.post("/insert", json={"event": "doc", "data": ["a"]}).json()
        ada.post("/insert", json={"event": "doc", "data": ["a", "b"]})
        for base in (version, None, {"id": "00000000-1", "data": []}):
            given = f"const api = {json.dumps(server.url)}, jwt = {json.dumps(token)}, mine = 'c';"
            given += f"const version = {json.dumps(base)}, merge = (data, mine) => [...data ?? [], mine];"
            tab.evaluate(f"async () => {{ {given}\n{post}\n{loop} }}")
        data = [record["data"] for record in ada.get("/collections/doc").json()]
        assert data[2:] == [["a", "b", *"c" * count] for count in (1, 2, 3)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_json_in_the_documentation_can_be_read(page: Path) -> None:
    for block in blocks(page.read_text(), "python"):
        compile(block.text, page.name, "exec")
    for block in blocks(page.read_text(), "json"):
        for value in block.text.strip().split("\n{"):
            json.loads(value if value.startswith("{") else "{" + value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]*)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if not link.startswith("http"):
            file, _, part = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            if part:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert part in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_what_the_tour_of_the_code_names_exists() -> None:
    tour = (ROOT / "docs" / "architecture.md").read_text()
    sources = [file.read_text() for file in sorted((ROOT / "src").rglob("*.py"))]
    named = set(re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", tour)) - {(word, "") for word in ("COMMIT", "MOVE_LOCK")}
    assert len(named) > 40
    for kind, member in named:
        defined = [source for source in sources if re.search(rf"^class {kind}\b", source, re.MULTILINE)]
        assert defined, kind
        if member:
            has = re.compile(rf"    (?:async )?def {member}\b|self\.{member}\b")
            assert any(has.search(source) for source in defined), f"{kind}.{member}"
    tests = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", tour)) <= tests


MOUNTED = [block.text for block in blocks(README, "python") if "create_app" in block.text]


@pytest.mark.parametrize("source", MOUNTED, ids=["starlette", "fastapi"])
def test_the_mounted_examples_of_the_readme_run(tmp_path: Path, source: str) -> None:
    with (
        HostProcess(tmp_path, source) as host,
        host.client("ada") as ada,
        streaming(host, "/live/events") as stream,
    ):
        stream.wait("$ready")
        assert ada.post("/insert", json={"event": "user", "data": 1}).status_code == 201
        stream.wait("user")


def test_commands_of_make_that_are_named_exist() -> None:
    named = set(re.findall(r"`make (\w+)`", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named >= {"test", "check", "docs"}
    for target in named:
        result = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"MAKEFLAGS": ""}
        )
        assert result.returncode == 0, result.stderr
