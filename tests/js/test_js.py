"""Runs the tests of the client in Node.js, each file against server processes of its own; and measures the client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.esbuild import bundle_bytes, needs_esbuild
from tests.support.node import needs_node
from tests.support.typescript import TYPESCRIPT, needs_typescript

HERE = Path(__file__).parent
SOURCES = ROOT / "src" / "broker" / "js"
CORE_BYTES_MAX = 14_500  # minified and gzipped
FORMS_BYTES_MAX = 4_250  # which a page loads with its first form
REACT_BYTES_MAX = 1_200  # without the core, and without React


@needs_node
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.js")), ids=lambda file: str(file.name))
def test_the_client_does_what_its_tests_say(file: Path) -> None:
    run = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(file)],
        env={**os.environ, "PYTHON": sys.executable}, cwd=HERE, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@needs_typescript
@pytest.mark.parametrize("project", [HERE, HERE / "react"], ids=["client", "react"])
def test_the_sources_have_the_types_that_the_contract_says(project: Path) -> None:
    if not (project / "node_modules" / ".installed").exists() and not os.environ.get("CI"):
        pytest.skip("THE TYPES WERE NOT TESTED: type make test, with Node.js and npm installed")
    command = ["node", str(TYPESCRIPT), "--project", str(project)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_wrong_uses_of_the_types_are_refused_and_each_says_what_is_wrong() -> None:
    """The compiler complains of an expected error that does not come."""
    wrong = re.findall(r"^// @ts-expect-error (.*)$", (HERE / "use.ts").read_text(), re.MULTILINE)
    assert len(set(wrong)) == len(wrong) >= 8


@needs_esbuild
def test_the_core_is_small() -> None:
    assert bundle_bytes(SOURCES / "broker.js", "./forms.js") <= CORE_BYTES_MAX


@needs_esbuild
def test_the_forms_are_small() -> None:
    assert bundle_bytes(SOURCES / "forms.js") <= FORMS_BYTES_MAX


@needs_esbuild
def test_the_hooks_for_react_are_small() -> None:
    assert bundle_bytes(SOURCES / "react.js", "react", "./broker.js") <= REACT_BYTES_MAX
