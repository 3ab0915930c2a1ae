"""A layer imports only from lower ones (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "broker"

LAYERS = [
    {
        "addresses",
        "errors",
        "names",
        "origins",
        "payload",
        "rates",
        "records",
        "settings",
        "sources",
        "sse",
        "urls",
        "users",
        "values",
    },
    {"store"},
    {
        "catchup",
        "edge",
        "hub",
        "passwords",
        "recent",
        "relay",
        "scheduler",
        "snapshot",
        "subscriber",
        "throttle",
        "tls",
        "tokens",
    },
    {"broker"},
    {"client", "web"},
    {"acceptor", "hangup", "listeners", "protocol", "server"},
    {"workers"},
    {"__init__"},
    {"cli", "operations", "options", "process"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    relative = file.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(file: Path) -> set[str]:
    """The parts of Broker that a file imports when it is loaded (not within functions, not for type checking)."""
    found = set[str]()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "broker":
            names = [node.module] if node.module != "broker" else [f"broker.{alias.name}" for alias in node.names]
            for name in names:
                part = name.split(".")[1] if "." in name else "__init__"
                found.add(part if part in LEVEL else "__init__")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_imports_only_from_lower_layers(file: Path) -> None:
    part = part_of(file)
    higher = {other for other in imports_of(file) if other != part and LEVEL[other] > LEVEL[part]}
    assert not higher


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_are_short_and_named_for_a_noun(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400
    assert file.stem not in {"utils", "helpers", "core", "services"}


def test_the_lowest_layer_has_no_io_no_event_loop_and_no_clock() -> None:
    for name in LAYERS[0]:
        tree = ast.parse((SOURCE / f"{name}.py").read_text())
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert modules.isdisjoint({"asyncio", "time", "datetime", "socket", "sqlite3", "threading"}), name


def test_imports_have_no_cycle_within_a_layer() -> None:
    graph = {part_of(file): set[str]() for file in FILES}
    for file in FILES:
        graph[part_of(file)] |= imports_of(file) - {part_of(file)}
    while graph:
        leaves = {part for part, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a cycle among {sorted(graph)}"
        graph = {part: needs for part, needs in graph.items() if part not in leaves}
