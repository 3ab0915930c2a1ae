"""docs/performance.md: what it says is what was measured. Nothing here measures anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.goals import goals_of
from bench.page import page_of
from bench.sizes import PEERS

DOCS = Path(__file__).parent.parent.parent / "docs"
TEMPLATE = DOCS.parent / "bench" / "client.md"
RESULTS: dict[str, Any] = json.loads((DOCS / "performance" / "results.json").read_text())


def test_the_page_is_made_from_the_data_beside_it_and_nothing_else() -> None:
    assert (DOCS / "performance.md").read_text() == page_of(RESULTS), "make bench ARGS=--page"


def test_the_page_of_a_part_of_a_run_has_the_sections_of_that_part() -> None:
    found = {name: RESULTS["found"][name] for name in ("bursts", "nodes_latency")}
    page = page_of(RESULTS | {"found": found, "quick": True})
    titles = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["Goals", "Bursts", "Several nodes", "What is missed, and why"]
    assert "This was a quick run" in page
    assert "<!--" not in page
    assert "Durable inserts" not in page


def test_the_data_is_of_a_whole_run_not_of_a_quick_one() -> None:
    assert not RESULTS["quick"]
    assert len(list(goals_of(RESULTS["found"]))) == 29


def test_the_plots_are_there() -> None:
    page = (DOCS / "performance.md").read_text()
    for plot in (DOCS / "performance").glob("*.svg"):
        assert f"(performance/{plot.name})" in page


def test_the_page_about_the_client_is_made_from_its_template_and_has_every_peer() -> None:
    page = (DOCS / "client-performance.md").read_text()
    pattern = re.sub(r"\\\{\w+(\\\[\w+\\\])?\\\}", "(.+)", re.escape(TEMPLATE.read_text()))
    assert re.fullmatch(pattern, page, re.DOTALL), "make bench ARGS=--client"
    assert [name for name in PEERS if f"| {name} |" not in page] == []
