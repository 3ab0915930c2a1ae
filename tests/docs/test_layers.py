"""A part of Broker imports only from lower ones, and no module from itself in a circle (docs/architecture.md).

What counts is every import: within functions, and for type checking alone, too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src" / "broker"

LAYERS = [
    {
        "addresses", "errors", "names", "origins", "rates", "raw_json", "records", "schema", "setting_sources",
        "setting_table", "setting_values", "settings", "sse", "typescript", "users", "version",
    },
    {"rules"},
    {"store"},
    {"accounts", "live", "operations"},
    {"broker"},
    {"web"},
    {"server"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {".".join(("broker", *file.relative_to(SOURCE).with_suffix("").parts)): file for file in FILES}


def part_of(module: str) -> str:
    name = module.split(".")[1]
    return name if name in LEVEL else "__init__"


def imports_of(file: Path) -> set[str]:
    """The modules of Broker that a file imports, wherever it does so."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {each for name in names for each in (name, f"{name}.__init__") if each in MODULES}
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "broker":
            for alias in node.names:
                each = f"{node.module}.{alias.name}"
                found.add(next(name for name in (each, node.module, f"{node.module}.__init__") if name in MODULES))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_part_imports_only_from_lower_ones(module: str) -> None:
    part = part_of(module)
    imported = {part_of(each) for each in imports_of(MODULES[module])}
    # The values may use each other; the parts of one of the other layers may not.
    below = LEVEL[part] + (LEVEL[part] == 0)
    wrong = {other for other in imported if other != part and LEVEL[other] >= below}
    assert not wrong, f"{module} imports {wrong}"


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter({module: imports_of(file) for module, file in MODULES.items()}).prepare()


def test_every_part_is_in_a_layer() -> None:
    parts = {file.stem if file.parent == SOURCE else file.relative_to(SOURCE).parts[0] for file in FILES}
    assert parts == set(LEVEL)
