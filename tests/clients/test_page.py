"""``docs/clients.md`` is what its results say, and they are what Broker promises."""

from __future__ import annotations

import pytest

from tests.clients.libraries import HERE, LIBRARIES, Library
from tests.clients.page import DOCS, made, read
from tests.clients.scenario import IDS_ALONE, Report
from tests.clients.soak import faults

RESULTS = read()
FILES = {"js": "package.json", "go": "go.mod", "rust": "Cargo.toml"}


def test_the_page_shows_the_last_results() -> None:
    assert (DOCS / "clients.md").read_text() == made(RESULTS)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.program))
class TestEach:
    def test_was_tried_in_this_version(self, library: Library) -> None:
        assert library.version in ("", RESULTS[library.program]["version"])
        if file := FILES.get(library.language):
            assert library.version.split()[0] in (HERE / library.language / file).read_text()

    def test_comes_back_if_it_survives_the_loss_of_its_connection(self, library: Library) -> None:
        result = RESULTS[library.program]
        assert faults(Report(order=result["order"], after=result["after"])) == []

    def test_gets_no_empty_event_while_it_is_connected_but_where_an_id_comes_alone(self, library: Library) -> None:
        counts = RESULTS[library.program]["empty"]
        assert {when for when, count in counts.items() if count and not when.startswith("after ")} <= {IDS_ALONE}
