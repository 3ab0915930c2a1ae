"""The page of the last soak is what its report says."""

from __future__ import annotations

import json

from tests.faults.soak import DOCS, with_report


def test_the_page_shows_the_last_report() -> None:
    page = (DOCS / "reliability.md").read_text()
    report = json.loads((DOCS / "reliability" / "soak.json").read_text())
    assert with_report(page, report) == page
    assert report["faults"] == []
    assert report["counts"]["SIGKILL"] >= 200
    assert report["counts"]["inserts acknowledged"] >= 100_000
    assert report["minutes"] >= 20
