"""The code that the console shows for an event runs as it is copied, whatever the event's name and its data are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.console import Console
from tests.support.documents import ROOT
from tests.support.esbuild import ESBUILD, needs_esbuild
from tests.support.servers import ServerProcess, wait_for
from tests.support.versions import HOSTILE, insert, route, versions

REACT = ROOT / "tests" / "js" / "react" / "node_modules"
CLIENT = ROOT / "src" / "broker" / "js"
HTML = '<!doctype html><meta charset="utf-8"><div id="root"></div><script type="module" src="/copied.js"></script>'
DATA = {"price": "1.50", "texts": [*HOSTILE, None, True], "a*/b": {"a</script>": 1, "__proto__": 2}}


class Code:
    """A page of the console, from which code is copied."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.page = console.open()
        self.env = {**os.environ, "TOKEN": console.server.token("ada")}

    def copied(self, name: str, language: str, title: str) -> str:
        """Copies the code with this title for this event."""
        self.page.goto(f"{self.console.server.url}/{route(name, 'code')}")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(name)
        self.page.get_by_role("radio", name=language).check(force=True)
        code = self.page.get_by_role("region", name=title)
        expect(self.page.get_by_role("main")).to_contain_text("1.50")
        self.page.evaluate("navigator.clipboard.writeText('')")
        code.get_by_role("button", name="Copy").click()
        text: str = wait_for(lambda: self.page.evaluate("navigator.clipboard.readText()"), what="the code")
        return text

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inserts_the_same_again(self, page: Page, name: str) -> None:
        """Presses the button of a copied page."""
        page.get_by_role("button", name="Insert").click()
        wait_for(lambda: len(versions(self.console, name)) == 2)
        first, second = versions(self.console, name)
        assert first["data"] == second["data"]
        assert page.evaluate("window.hacked") is None


@pytest.fixture(name="code", scope="module")
def open_code(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Code]:
    with ServerProcess(tmp_path_factory.mktemp("data"), retry_ms=200) as server:
        console = Console(browser, server)
        try:
            yield Code(console)
        finally:
            console.close()


@pytest.fixture(name="name", params=range(len(HOSTILE)))
def make_name(request: pytest.FixtureRequest, code: Code) -> str:
    """An event with a hostile name and hostile data, of its own for each test."""
    name = f"{HOSTILE[request.param]} {request.node.name.encode().hex()[:60]}"
    insert(code.console, "ada", json.dumps(DATA), name)
    return name


def test_the_commands_of_curl_run_as_they_are_copied(code: Code, name: str) -> None:
    (record,) = json.loads(code.run("sh", "-c", code.copied(name, "curl", "Read the newest version")))
    assert (record["event"], record["data"]) == (name, DATA)
    assert json.loads(code.run("sh", "-c", code.copied(name, "curl", "Insert a version")))["data"] == DATA
    assert len(versions(code.console, name)) == 2
    command = ["sh", "-c", "exec " + code.copied(name, "curl", "Follow every change")]
    with subprocess.Popen(command, env=code.env, stdout=subprocess.PIPE) as follow:
        assert follow.stdout is not None
        data = next(line for line in follow.stdout if line.startswith(b"data: "))
        follow.terminate()
    assert json.loads(data[6:]) == DATA


def test_the_programs_in_python_run_as_they_are_copied(code: Code, name: str) -> None:
    assert "'published': True" in code.run(sys.executable, "-c", code.copied(name, "Python", "Insert a version"))
    first, second = versions(code.console, name)
    assert first["data"] == second["data"]
    program = code.copied(name, "Python", "Follow every change")
    with subprocess.Popen([sys.executable, "-c", program], env=code.env, stdout=subprocess.PIPE, text=True) as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == f"{DATA}\n"
        insert(code.console, "bob", '"changed"', name)
        assert follow.stdout.readline() == "changed\n"
        follow.terminate()


def opened(code: Code, text: str) -> Page:
    """A copied page. It is of the server's own origin, so that it runs without further settings."""
    page = code.console.watched(code.page.context.new_page())
    page.route("**/copied.html", lambda request: request.fulfill(body=text, content_type="text/html"))
    page.goto(f"{code.console.server.url}/copied.html")
    return page


def test_the_page_shows_the_value_live_as_it_is_copied(code: Code, name: str) -> None:
    text = code.copied(name, "JavaScript", "A page with the live value")
    assert "price: string;" in text  # its type
    page = opened(code, text)
    expect(page.locator("#value")).to_contain_text('"price": "1.50"')
    insert(code.console, "bob", '"changed"', name)
    expect(page.locator("#value")).to_have_text('"changed"')
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.evaluate("window.hacked") is None
    page.close()


def test_a_page_logs_in_before_it_inserts_as_it_is_copied(code: Code, name: str) -> None:
    page = opened(code, code.copied(name, "JavaScript", "Insert from a page"))
    page.get_by_placeholder("User name").fill("ada")
    page.get_by_placeholder("Password").fill("wrong password")
    page.get_by_role("button", name="Insert").click()
    expect(page.locator("#state")).to_contain_text("password")
    assert len(versions(code.console, name)) == 1
    page.get_by_placeholder("Password").fill("correct horse")
    code.inserts_the_same_again(page, name)
    expect(page.locator("#state")).to_contain_text("Inserted at")
    page.close()


@needs_esbuild
@pytest.mark.skipif(not (REACT / "react-19").exists() and not os.environ.get("CI"), reason="React is not installed")
def test_the_component_runs_as_it_is_copied(code: Code, name: str, tmp_path: Path) -> None:
    (tmp_path / "app.tsx").write_text(code.copied(name, "React", "src/App.tsx"))
    (tmp_path / "page.tsx").write_text(
        'import { createRoot } from "react-dom/client";\nimport App from "./app";\n'
        'createRoot(document.getElementById("root")!).render(<App />);\n'
    )
    aliases = {
        "react": REACT / "react-19",
        "react-dom": REACT / "react-dom-19",
        "zerocode-broker/react": CLIENT / "react.js",
        "zerocode-broker": CLIENT / "broker.js",
    }
    options = [f"--alias:{alias}={path}" for alias, path in aliases.items()]
    built = code.run(str(ESBUILD), str(tmp_path / "page.tsx"), "--bundle", "--format=esm", "--jsx=automatic", *options)
    page = code.console.watched(code.page.context.new_page())
    page.route("**/copied.html", lambda request: request.fulfill(body=HTML, content_type="text/html"))
    page.route("**/copied.js", lambda request: request.fulfill(body=built, content_type="text/javascript"))
    page.goto(f"{code.console.server.url}/copied.html")
    expect(page.locator("pre")).to_contain_text('"price": "1.50"')
    code.inserts_the_same_again(page, name)
    page.close()


def test_code_scrolls_sideways_on_a_phone_and_commands_wrap(code: Code) -> None:
    page = code.console.open(route("new", "code"), viewport={"width": 360, "height": 640})
    wide = "pres => pres.map((each) => each.scrollWidth > each.clientWidth)"
    expect(page.get_by_text("python3 -m http.server 8000 --bind 127.0.0.1")).to_be_visible()
    expect(page.locator("pre")).to_have_count(2)
    assert page.locator("pre").evaluate_all(wide) == [True, True]
    page.get_by_role("radio", name="curl").check(force=True)
    expect(page.locator("pre")).to_have_count(3)
    assert page.locator("pre").evaluate_all(wide) == [False, False, False]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_language_is_remembered_and_a_token_is_only_copied(code: Code) -> None:
    page = code.page
    page.goto(f"{code.console.server.url}/{route('new', 'code')}")
    page.get_by_role("radio", name="Python").check(force=True)
    page.reload()
    expect(page.get_by_role("radio", name="Python")).to_be_checked()
    page.get_by_role("button", name="Copy a line that sets TOKEN").click()
    wait_for(lambda: re.fullmatch(r"export TOKEN=eyJ[\w.-]+", page.evaluate("navigator.clipboard.readText()")))
    assert "eyJ" not in page.content()
