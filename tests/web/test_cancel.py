from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.answers import insert, problem
from tests.support.servers import ServerProcess, wait_for


@pytest.fixture
def pending(ada: httpx.Client) -> dict[str, Any]:
    """A record that waits for the year 2255."""
    record: dict[str, Any] = insert(ada, "cancel/pending", more=b',"timestamp":9e9').json()
    return record


def _kept(client: httpx.Client, record: dict[str, Any]) -> dict[str, Any]:
    """The record as the log has it now."""
    log = client.get(f"/collections/{record['event']}").json()
    return next(each for each in log if each["uuid"] == record["uuid"])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_pending_record_is_cancelled_and_again_is_fine(
    ada: httpx.Client, pending: dict[str, Any], method: str
) -> None:
    first = ada.request(method, f"/cancel/{pending['uuid']}")
    again = ada.request(method, f"/cancel/{pending['uuid'].upper()}")
    assert first.status_code == again.status_code == 200
    assert first.headers["cache-control"] == "no-store"
    assert first.json() == again.json() == pending | {"published": True, "cancelled": True}
    assert _kept(ada, pending) == first.json()


def test_another_user_may_cancel_too(server: ServerProcess, pending: dict[str, Any]) -> None:
    with server.client("cancel-other") as other:
        assert other.post(f"/cancel/{pending['uuid']}").json()["user"] == "ada"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
def test_no_other_method_cancels(ada: httpx.Client, pending: dict[str, Any], method: str) -> None:
    answer = ada.request(method, f"/cancel/{pending['uuid']}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
    assert _kept(ada, pending) == pending


@pytest.mark.parametrize("parameter", ["token", "jwt", "access_token"])
def test_a_token_in_the_address_does_not_count(
    server: ServerProcess, ada: httpx.Client, pending: dict[str, Any], parameter: str
) -> None:
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    with server.client() as nobody:
        problem(nobody.get(f"/cancel/{pending['uuid']}", params={parameter: token}), 401)
    assert _kept(ada, pending) == pending


def test_an_unknown_uuid_is_not_found(ada: httpx.Client) -> None:
    uuid = uuid4()
    assert str(uuid) in problem(ada.post(f"/cancel/{uuid}"), 404)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/cancel", "say which record"),
        ("/cancel/", "say which record"),
        ("/cancel/7", "expected 36 characters"),
        ("/cancel/%FF", "expected 36 characters"),
        ("/cancel/urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057", "expected 36 characters"),
        ("/cancel/01890a5d-ac96-774b-bcce-b302099a8057/", "expected 36 characters"),
        ("/cancel/01890a5d-ac96-774b-bcce-b302099a8057/x", "expected 36 characters"),
    ],
)
def test_what_is_not_a_uuid_is_refused(ada: httpx.Client, method: str, path: str, sentence: str) -> None:
    assert sentence in problem(ada.request(method, path), 400)


def test_an_address_with_a_line_break_cancels_nothing(ada: httpx.Client, pending: dict[str, Any]) -> None:
    assert "line break" in problem(ada.post(f"/cancel/{pending['uuid']}%0A"), 400)
    assert _kept(ada, pending) == pending


def test_a_published_record_can_not_be_cancelled(ada: httpx.Client) -> None:
    record = insert(ada, "cancel/published").json()
    assert "published already" in problem(ada.post(f"/cancel/{record['uuid']}"), 409)
    assert _kept(ada, record) == record


def test_a_log_only_record_can_not_be_cancelled(ada: httpx.Client) -> None:
    record = insert(ada, "cancel/quiet", more=b',"published":true,"timestamp":9e9').json()
    assert "log-only" in problem(ada.post(f"/cancel/{record['uuid']}"), 409)
    assert _kept(ada, record) == record


def test_a_due_record_can_not_be_cancelled(ada: httpx.Client) -> None:
    due = time.time() + 0.2
    record = insert(ada, "cancel/due", more=b',"timestamp":%r' % due).json()
    assert record["published"] is False
    wait_for(lambda: time.time() >= due)
    problem(ada.post(f"/cancel/{record['uuid']}"), 409)
    published = _kept(ada, record)
    assert published["published_at"] >= due
    assert published["cancelled"] is False
