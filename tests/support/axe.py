"""axe-core, which finds what keeps people with a disability from using a page (https://github.com/dequelabs/axe-core)."""

from __future__ import annotations

import os
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.documents import ROOT

_SCRIPT = ROOT / "tests" / "js" / "node_modules" / "axe-core" / "axe.min.js"

needs_axe = pytest.mark.skipif(
    not _SCRIPT.exists() and not os.environ.get("CI"),
    reason="ACCESSIBILITY WAS NOT TESTED: type make test where npm's registry can be reached",
)


def violations(page: Page) -> list[str]:
    """What axe finds in the page as it is shown now: the rule, how serious it is, and the elements."""
    page.evaluate(_SCRIPT.read_text())  # past the page's policy, which lets it load no script of others
    found: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['impact']} {each['id']}: {each['help']}: {', '.join(str(node['target']) for node in each['nodes'])}"
        for each in found["violations"]
    ]
