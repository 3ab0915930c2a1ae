"""The page of the last soak is what its report says."""

from __future__ import annotations

import json

from tests.faults.soak import DOCS, ONE, THREE, with_reports

LEAST = {ONE: ("SIGKILL", 200, 20), THREE: ("SIGSTOP", 20, 10)}  # so many, in so many minutes


def test_the_page_shows_the_last_reports() -> None:
    page = (DOCS / "reliability.md").read_text()
    reports = json.loads((DOCS / "reliability" / "soak.json").read_text())
    assert with_reports(page, reports) == page
    for what, report in reports.items():
        fault, count, minutes = LEAST[what]
        assert report["faults"] == []
        assert report["counts"][fault] >= count
        assert report["counts"]["inserts acknowledged"] >= 1_000 * minutes
        assert report["minutes"] >= minutes
