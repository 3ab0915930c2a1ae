"""How the packages for tests of JavaScript are installed, and what happens without npm's registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.node import needs_node

PACKAGES = sorted(file for file in ROOT.glob("tests/**/package.json") if "node_modules" not in file.parts)
NO_REGISTRY = "http://127.0.0.1:9/"  # nothing listens there
EXACT = re.compile(r"(npm:[@\w/-]+@)?\d+\.\d+\.\d+")


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_packages_are_named_by_exact_versions_and_no_file_records_an_address(file: Path) -> None:
    package = json.loads(file.read_text())
    named = package.get("dependencies", {}) | package.get("devDependencies", {})
    assert [name for name, version in named.items() if not EXACT.fullmatch(version)] == []
    lock = file.parent / "package-lock.json"
    assert not lock.exists() or '"resolved"' not in lock.read_text()


@needs_node
@pytest.mark.parametrize("ci", ["", "true"])
def test_without_a_registry_the_tests_go_on_but_not_in_ci(tmp_path: Path, ci: str) -> None:
    (tmp_path / "js").mkdir()
    shutil.copy(ROOT / "tests" / "js" / "package.json", tmp_path / "js")
    venv = ROOT / ".venv"
    command = ["make", "-C", str(tmp_path), "-f", str(ROOT / "Makefile"), f"VENV={venv}", "js/node_modules/.installed"]
    command += ["--assume-old", str(venv / ".tests")]
    environment = os.environ | {"CI": ci, "npm_config_registry": NO_REGISTRY, "npm_config_fetch_retries": "0"}
    environment["npm_config_cache"] = str(tmp_path / "cache")
    made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "NOT EVERYTHING IS TESTED: npm could not install the packages of js" in made.stderr
    assert (made.returncode == 0) == (not ci), made.stderr
    assert not (tmp_path / "js" / "node_modules" / ".installed").exists()
