"""Other people's libraries, all at once against one server: the scenario is in ``scenario.py``."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.clients.libraries import HERE, LIBRARIES, Library
from tests.clients.scenario import FULL, IDS_ALONE, RESUMES, SAVED_ID, YES, Report, Scenario
from tests.clients.toolchains import browser

QUICK = [library for library in LIBRARIES if library.quick]


def _lacks(library: Library) -> str:
    """What is missing on this machine, so that it cannot be tried."""
    if library.program == "chromium" and not browser():
        return "Chromium (Debian: apt install chromium)"
    if library.language == "js" and not (
        shutil.which("node") and (HERE / "js" / "node_modules" / ".installed").exists()
    ):
        return "its package: type make test where npm's registry can be reached"
    return ""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    there = [library for library in QUICK if not _lacks(library)]
    return Scenario(there, tmp_path_factory.mktemp("clients"), heartbeat_s=0.5, say=print).run()


@pytest.fixture(params=QUICK, ids=lambda library: str(library.program))
def report(request: pytest.FixtureRequest, reports: dict[str, Report]) -> Report:
    library: Library = request.param
    lacks = _lacks(library)
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"{library.name.upper()} WAS NOT TESTED: it needs {lacks}")
    assert not lacks, f"CI is set, and {library.name} needs {lacks}"
    return reports[library.program]


def test_names_ids_and_data_arrive_to_the_character(report: Report) -> None:
    assert (report.names, report.separators, report.large) == (YES, YES, YES), report.complaints


def test_no_empty_event_is_delivered_but_where_an_id_comes_alone(report: Report) -> None:
    assert {when for when, count in report.empty.items() if count} <= {IDS_ALONE}
    assert report.empty[IDS_ALONE] <= 1


@pytest.mark.parametrize("after", [FULL, "SIGTERM", "SIGKILL", SAVED_ID])
def test_it_resumes_after(report: Report, after: str) -> None:
    """What was missed comes once, and nothing twice."""
    assert report.after[after] == RESUMES, report.complaints


def test_each_record_comes_once_and_in_order(report: Report) -> None:
    assert report.order == YES


def test_another_log_is_announced_with_reset(report: Report) -> None:
    assert report.reset == YES, report.complaints
