"""``make soak ARGS=--proxies``: the development proxies that npm has, by the same measure as nginx, Caddy and HAProxy.

Not a part of ``make test``: some 400 packages are installed first, and Next is built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.proxies.client import check_that_the_client_resumes
from tests.proxies.lab import DOCS, START_S, Proxy, installed, with_upstream
from tests.proxies.live import check_it_is_live
from tests.proxies.restarts import Restarts, said
from tests.support.documents import ROOT, blocks
from tests.support.esbuild import ESBUILD
from tests.support.servers import ServerProcess

JS = Path(__file__).parent / "js"
MODULES = JS / "node_modules"
CLIENT = ROOT / "src" / "broker" / "js"
expect.set_options(timeout=20_000)
BUILD_S = 300


class Development(Proxy):
    """A proxy of Node.js; it finds its packages from a folder beneath theirs."""

    program = "node"

    @property
    def prefix(self) -> str:
        return "/live"

    def fitted(self, upstream: str) -> str:
        return with_upstream(self.config, upstream)

    def environment(self) -> dict[str, str]:
        return os.environ | {"NEXT_TELEMETRY_DISABLED": "1", "NO_COLOR": "1"}


class Vite(Development):
    def command(self, config: str) -> list[str]:
        file = self.write("vite.config.js", config)
        options = ["--config", str(file), "--host", "127.0.0.1", "--port", str(self.port), "--strictPort"]
        return [installed("node"), str(MODULES / "vite" / "bin" / "vite.js"), *options]


class Webpack(Development):
    package = "webpack-dev-server"

    def command(self, config: str) -> list[str]:
        shutil.copy(JS / "page.js", self.folder)
        self.write("webpack.config.js", config)
        self.write("package.json", '{"type": "module"}')
        # As `npx webpack serve` does, with the version that is asked for.
        start = f"""
            import webpack from "webpack";
            import Server from "{self.package}";
            import config from "./webpack.config.js";
            const options = {{...config.devServer, host: "127.0.0.1", port: {self.port}, allowedHosts: "all"}};
            await new Server(options, webpack(config)).start();
        """
        return [installed("node"), str(self.write("start.js", start))]


class Webpack6(Webpack):
    package = "webpack-dev-server-6"


class Express(Development):
    package = "http-proxy-middleware"

    def command(self, config: str) -> list[str]:
        assert "listen(3000," in config
        config = config.replace("listen(3000,", f"listen({self.port},")
        config = config.replace('from "http-proxy-middleware"', f'from "{self.package}"')
        self.write("package.json", '{"type": "module"}')
        return [installed("node"), str(self.write("express.js", config))]


class Express4(Express):
    package = "http-proxy-middleware-4"


class NextDev(Development):
    def command(self, config: str) -> list[str]:
        shutil.copytree(JS / "next", self.folder, dirs_exist_ok=True)
        self.write("next.config.mjs", config)
        return self._next("dev")

    def _next(self, *words: str) -> list[str]:
        return [
            installed("node"), str(MODULES / "next" / "dist" / "bin" / "next"), *words,
            "--hostname", "127.0.0.1", "--port", str(self.port),
        ]  # fmt: skip


class NextPage(NextDev):
    """The page that docs/front-end.md shows: the server renders it, and the browser goes on."""

    def command(self, config: str) -> list[str]:
        command = super().command(config)
        shutil.copytree(CLIENT, self.folder / "node_modules" / "zerocode-broker", dirs_exist_ok=True)
        (self.folder / "app" / "page.js").unlink()
        for block in blocks((DOCS.parent / "front-end.md").read_text(), "tsx"):
            (name,) = re.findall(r"^export (?:default )?(?:async )?function (\w+)", block.text, re.MULTILINE)
            words = [str(ESBUILD), "--loader=tsx", "--jsx=preserve"]
            script = subprocess.run(words, input=block.text, check=True, capture_output=True, text=True).stdout
            upstream = re.findall(r"http://127\.0\.0\.1:\d+", config)[0]
            file = self.folder / "app" / ("page.jsx" if name == "Page" else f"{name}.jsx")
            file.write_text(script.replace("http://127.0.0.1:8080", upstream))
        return command


class NextStart(NextDev):
    def command(self, config: str) -> list[str]:
        super().command(config)
        build = [*self._next()[:2], "build"]
        done = subprocess.run(
            build, cwd=self.folder, env=self.environment(), timeout=BUILD_S, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self._next("start")


# Those "as below" are what docs/proxies.md recommends; the others are what people have.
PROXIES: dict[str, tuple[type[Development], Path]] = {
    "Vite, as below": (Vite, DOCS / "vite.config.js"),
    "Vite, `target` alone": (Vite, JS / "vite.config.js"),
    "webpack-dev-server 5, as below": (Webpack, DOCS / "webpack.config.js"),
    "webpack-dev-server 5, `target` alone": (Webpack, JS / "webpack.config.js"),
    "webpack-dev-server 6, `target` alone": (Webpack6, JS / "webpack.config.js"),
    "http-proxy-middleware 3, as below": (Express, DOCS / "express.js"),
    "http-proxy-middleware 3, `target` alone": (Express, JS / "express.js"),
    "http-proxy-middleware 4, as below": (Express4, DOCS / "express.js"),
    "http-proxy-middleware 4, `target` alone": (Express4, JS / "express.js"),
    "Next, `next dev`": (NextDev, DOCS / "next.config.mjs"),
    "Next, `next start`": (NextStart, DOCS / "next.config.mjs"),
}
NEWER_NODE = (Webpack6, Express4)  # these want 22.15 or newer


@lru_cache
def node_version() -> tuple[int, ...]:
    said = subprocess.run([installed("node"), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.strip().lstrip("v").split(".")))


def runs_here(kind: type[Development]) -> bool:
    return kind not in NEWER_NODE or node_version() >= (22, 15)


@pytest.fixture(scope="module")
def development(broker: ServerProcess) -> Iterator[dict[str, Proxy]]:
    wanted = json.loads((JS / "package-lock.json").read_text())["packages"]
    lock = MODULES / ".package-lock.json"
    have = json.loads(lock.read_text())["packages"] if lock.exists() else {}
    if not all(have.get(f"node_modules/{name}") for name in wanted[""]["dependencies"]):
        subprocess.run([installed("npm"), "ci", "--ignore-scripts"], cwd=JS, check=True, timeout=BUILD_S)
    folder = JS / "tmp"
    shutil.rmtree(folder, ignore_errors=True)
    with ExitStack() as stack:
        made: dict[str, Proxy] = {}
        for number, (name, (kind, config)) in enumerate(PROXIES.items()):
            if runs_here(kind):
                made[name] = stack.enter_context(kind(name, config, folder / str(number)))
                made[name].start(f"127.0.0.1:{broker.port}")
        yield made


@pytest.mark.parametrize("name", PROXIES)
def test_events_and_heartbeats_come_through_at_once(
    name: str, ada: httpx.Client, development: dict[str, Proxy]
) -> None:
    if name not in development:
        pytest.skip(f"{name}: it wants Node.js 22.15 or newer; this is {node_version()}")
    check_it_is_live(ada, development[name])


def test_the_client_for_pages_resumes_behind_each_of_them_after_a_kill(
    broker: ServerProcess, ada: httpx.Client, development: dict[str, Proxy], page: Page
) -> None:
    check_that_the_client_resumes(broker, ada, development, page)


def test_a_page_that_next_renders_goes_on_from_its_state(
    broker: ServerProcess, ada: httpx.Client, development: dict[str, Proxy], page: Page
) -> None:
    """T38: what the server has rendered is what the page begins with, and nothing is loaded twice."""
    assert development, "the packages are installed"
    ada.post("/insert", json={"event": "sale", "data": {"percent": 33}}).raise_for_status()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with NextPage("Next, a page", DOCS / "next.config.mjs", JS / "tmp" / "page") as proxy:
        proxy.start(f"127.0.0.1:{broker.port}")
        url = proxy.url.removesuffix("/live")
        assert "33 % off" in re.sub("<!-- -->", "", httpx.get(url, timeout=START_S).text)
        with page.expect_request("**/live/events") as request:
            page.goto(url)
        assert '"last_event_id"' in str(request.value.post_data)
        expect(page.get_by_role("status")).to_contain_text("33 % off, live")
        ada.post("/insert", json={"event": "sale", "data": {"percent": 44}}).raise_for_status()
        expect(page.get_by_role("status")).to_contain_text("44 % off")
    assert not [text for text in said if "ydrat" in text]


def test_a_restart_is_what_the_page_says(
    broker: ServerProcess, ada: httpx.Client, development: dict[str, Proxy], page: Page
) -> None:
    expected = {name: row for name, row in said().items() if name in development}
    assert expected.keys() == development.keys()
    assert Restarts(broker, ada, development.values(), page).rows(expected) == expected
