"""The client as a package of npm: what publint and attw say of it, and what is packed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.node import needs_node
from tests.support.typescript import compiled, needs_typescript

SOURCES = ROOT / "src" / "broker" / "js"
MODULES = Path(__file__).parent / "node_modules"
APP = """
import { createBroker, BrokerError, type Sent } from "zerocode-broker";
declare global {
  interface BrokerEvents { sale: { percent: number } }
}
const sent: Sent = createBroker().event("sale").set({ percent: 20 });
sent.catch((error) => error instanceof BrokerError && error.status);
createBroker("/").event("sale").get()?.percent.toFixed();
// @ts-expect-error it is a number
createBroker("/").event("sale").get()?.percent.trim();
"""

needs_checkers = pytest.mark.skipif(
    not (MODULES / ".installed").exists() and not os.environ.get("CI"),
    reason="THE PACKAGE OF NPM WAS NOT CHECKED: type make test where npm's registry can be reached",
)


@pytest.fixture(name="package")
def make_package(tmp_path: Path) -> Path:
    """A copy, because the checkers pack it where it is."""
    return Path(shutil.copytree(SOURCES, tmp_path / "package"))


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_checkers
def test_publint_finds_nothing(package: Path) -> None:
    assert "All good!" in run(package, str(MODULES / ".bin" / "publint"), "--strict")


@needs_checkers
def test_every_resolution_of_modules_finds_the_types(package: Path) -> None:
    """Those without ES modules are left out: the package has nothing else."""
    run(package, str(MODULES / ".bin" / "attw"), "--pack", ".", "--profile", "esm-only")


@needs_node
def test_the_package_has_every_module_and_nothing_else(package: Path) -> None:
    (packed,) = json.loads(run(package, "npm", "pack", "--dry-run", "--json"))
    modules = {file.name for file in SOURCES.iterdir() if file.suffix in (".js", ".ts")}
    assert {file["path"] for file in packed["files"]} == modules | {"package.json", "llms.txt"}


@pytest.fixture(name="app")
def make_app(package: Path, tmp_path: Path) -> Path:
    """A folder in which the package is installed."""
    (tmp_path / "node_modules").mkdir()
    package.rename(tmp_path / "node_modules" / "zerocode-broker")
    return tmp_path


@needs_typescript
@pytest.mark.parametrize("module", [("esnext", "bundler"), ("nodenext", "nodenext")])
def test_an_app_has_its_types_by_its_name(app: Path, module: tuple[str, str]) -> None:
    (app / "package.json").write_text('{"type": "module"}')
    (app / "app.ts").write_text(APP)
    assert compiled(app, "--module", module[0], "--moduleResolution", module[1], "app.ts") == ""


@needs_node
def test_an_app_imports_it_by_its_name_and_each_module_by_its_file(app: Path) -> None:
    modules = sorted(file.name for file in SOURCES.glob("*.js") if file.name != "react.js")  # it needs React
    program = f"""
      const {{ createBroker }} = await import("zerocode-broker");
      const files = await Promise.all({json.dumps(modules)}.map((each) => import(`zerocode-broker/${{each}}`)));
      console.log(files.some((each) => each.createBroker === createBroker));"""
    (app / "app.mjs").write_text(program)
    assert run(app, "node", "app.mjs") == "true\n"
