"""``docs/clients.md`` is what its results say, and they are what Broker promises."""

from __future__ import annotations

import pytest

from tests.clients.libraries import LIBRARIES, Library
from tests.clients.page import DOCS, IDS_ALONE, made, read
from tests.clients.scenario import Report
from tests.clients.soak import faults

RESULTS = read()


def test_the_page_shows_the_last_results() -> None:
    assert (DOCS / "clients.md").read_text() == made(RESULTS)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.program))
class TestEach:
    def test_was_tried_in_this_version(self, library: Library) -> None:
        assert RESULTS[library.program]["version"] == library.version

    def test_comes_back_if_it_survives_the_loss_of_its_connection(self, library: Library) -> None:
        result = RESULTS[library.program]
        assert faults(Report(order=result["order"], after=result["after"])) == []

    def test_gets_no_empty_event_while_it_is_connected_but_where_an_id_comes_alone(self, library: Library) -> None:
        counts = RESULTS[library.program]["empty"]
        assert {when for when, count in counts.items() if count and not when.startswith("after ")} <= {IDS_ALONE}
