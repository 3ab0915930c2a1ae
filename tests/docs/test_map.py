"""CONTRIBUTING.md says where the tests of every module are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.slowest import SLOWEST

SOURCE = ROOT / "src" / "broker"
TESTS = ROOT / "tests"
ROWS = dict(re.findall(r"^\| `([\w/]+\.py)` \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))


def has_code(file: Path) -> bool:
    """The file of a package may have a docstring alone."""
    return any(not isinstance(statement, ast.Expr) for statement in ast.parse(file.read_text()).body)


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    modules = [file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if has_code(file)]
    assert sorted(ROWS) == sorted(modules)


@pytest.mark.parametrize("module", ROWS)
def test_the_tests_of_a_row_exist(module: str) -> None:
    named = re.findall(r"`([^`]*)`", ROWS[module])
    assert named
    assert [name for name in named if not (TESTS / name).is_file()] == []


def test_no_test_file_imports_from_another() -> None:
    """What two of them need is in tests/support."""
    found = [
        f"{file.relative_to(TESTS)} imports {node.module}"
        for file in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and re.fullmatch(r"tests\..*\btest_\w+", node.module or "")
    ]
    assert found == []


def test_the_files_that_start_first_exist() -> None:
    assert [file for file in SLOWEST if not (TESTS / file).is_file()] == []
