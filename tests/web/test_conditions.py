"""Inserts that end, that depend on the latest version, or that must not be late; and cancels within a batch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.answers import JSON
from tests.support.servers import ServerProcess, streaming, wait_for

Body = dict[str, Any]
Record = dict[str, Any]
UNKNOWN = "515f6bb3-7f8f-4053-9658-f31120b25378"
LATER = 9_000_000_000


def new(data: object = 1, **more: object) -> Body:
    return {"event": f"conditions/{uuid4()}", "data": data, **more}


def stored(client: httpx.Client, body: Body) -> Record:
    answer = client.post("/insert", json=body)
    assert answer.status_code == 201, answer.text
    record: Record = answer.json()
    return record


def log(client: httpx.Client, event: str) -> list[Record]:
    records: list[Record] = client.get(f"/collections/{event}").json()
    return records


def latest(client: httpx.Client, event: str) -> Record | None:
    return next(iter(client.get("/snapshot", params={"event": event}).json()), None)


def refused(client: httpx.Client, body: Body, status: int, code: str, **headers: str) -> Body:
    """The problem document. Nothing was stored: neither alone, nor behind a good record in an array, nor in lines."""
    before = log(client, body["event"]) if "event" in body else []
    neighbour = new("neighbour")
    alone = client.post("/insert", json=body, headers=headers)
    array = client.post("/insert", json=[neighbour, body], headers=headers)
    lines = "\n".join(map(json.dumps, (neighbour, body)))
    rows = client.post("/insert", content=lines, headers={"Content-Type": "application/x-ndjson", **headers})
    for answer in (alone, array, rows):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == f"urn:broker:problem:{code}"
    assert "index" not in alone.json()
    for answer in (array, rows):
        assert answer.json()["index"] == 1
        assert answer.json()["detail"] == f"record 1: {alone.json()['detail']}"
    assert log(client, neighbour["event"]) == []
    if "event" in body:
        assert log(client, body["event"]) == before
    document: Body = alone.json()
    return document


# until


@pytest.mark.parametrize("end", [LATER, LATER + 0.5, "9e9"])
@pytest.mark.parametrize("more", [{}, {"timestamp": 5}, {"timestamp": LATER - 1}], ids=str)
def test_an_end_is_echoed_as_it_was_sent(ada: httpx.Client, end: object, more: Body) -> None:
    text = str(end)
    body = new(**more)
    sent = json.dumps(body)[:-1] + f', "until": {text}}}'
    answer = ada.post("/insert", content=sent, headers=JSON)
    assert answer.status_code == 201
    assert f'"until":{text},' in answer.text
    assert log(ada, body["event"]) == [answer.json()]


def test_a_version_ends_at_its_time_by_a_record_that_says_so(server: ServerProcess, ada: httpx.Client) -> None:
    body = new(until=round(time.time() + 0.3, 3))
    with streaming(server, f"/events?event={body['event']}") as stream:
        stream.wait("$ready")
        record = stored(ada, body)
        stream.wait(body["event"], 2)
    assert [frame.data for frame in stream.records()] == ["1", "null"]
    ending = log(ada, body["event"])[1]
    assert ending["ends"] == record["uuid"]
    assert ending["timestamp"] == record["until"] <= ending["published_at"]
    assert ending["user"] == "ada"
    assert latest(ada, body["event"]) is None


def test_a_version_that_was_superseded_does_not_end(ada: httpx.Client) -> None:
    short, other = new(until=time.time() + 0.3), new(until=time.time() + 0.3)
    stored(ada, short)
    stored(ada, other)
    newer = stored(ada, {"event": short["event"], "data": 2})
    wait_for(lambda: latest(ada, other["event"]) is None)
    assert latest(ada, short["event"]) == newer
    assert len(log(ada, short["event"])) == 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"timestamp": LATER, "until": LATER}, "until: the end must be later than the timestamp"),
        ({"timestamp": LATER, "until": LATER - 1}, "until: the end must be later than the timestamp"),
        ({"timestamp": 1000, "until": 999.5}, "until: the end must be later than the timestamp"),
        ({"timestamp": 1000, "until": 2000}, "until: this time has passed already"),
        ({"until": 1000}, "until: this time has passed already"),
        ({"until": LATER, "data": None}, "until: null removes the event at once"),
        ({"until": LATER, "published": True}, "until: a log-only record"),
        ({"until": 1e13}, "until: "),
        ({"until": True}, "until: "),
        ({"until": []}, "until: "),
        ({"until": ""}, "until: "),
    ],
    ids=str,
)
def test_an_end_that_makes_no_sense_is_refused(ada: httpx.Client, more: Body, sentence: str) -> None:
    assert sentence in refused(ada, new() | more, 400, "bad-request")["detail"]


def test_an_end_is_part_of_what_a_repeated_insert_must_match(ada: httpx.Client) -> None:
    body = new(uuid=str(uuid4()), until=LATER)
    first = stored(ada, body)
    again = ada.post("/insert", json=body)
    assert (again.status_code, again.json()) == (200, first)
    for other in (body | {"until": LATER + 1}, body | {"until": None}):
        refused(ada, other, 409, "conflict")


# if_latest


def test_the_latest_is_named_by_its_id_or_its_uuid(ada: httpx.Client) -> None:
    body = new(0)
    record = stored(ada, body | {"if_latest": "none"})
    for n in range(1, 5):
        record = stored(ada, body | {"data": n, "if_latest": record["id" if n % 2 else "uuid"]})
    assert [each["data"] for each in log(ada, body["event"])] == [0, 1, 2, 3, 4]
    stored(ada, body | {"data": 5, "if_latest": None})  # the same as without


def test_of_many_at_once_with_one_condition_one_is_stored(ada: httpx.Client) -> None:
    body = new(if_latest="none")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: ada.post("/insert", json=body | {"data": n}), range(40)))
    assert sorted(answer.status_code for answer in answers) == [201] + [412] * 39
    (record,) = log(ada, body["event"])
    assert all(answer.json()["latest"] == record for answer in answers if answer.status_code == 412)


def test_a_condition_that_is_not_met_shows_the_latest(ada: httpx.Client) -> None:
    body = new()
    first = stored(ada, body)
    second = stored(ada, body | {"data": 2})
    for wanted in ("none", first["id"], first["uuid"], UNKNOWN, f"00000000-{second['id'].partition('-')[2]}"):
        problem = refused(ada, body | {"if_latest": wanted}, 412, "not-latest")
        assert problem["latest"] == second
        short = refused(ada, body | {"if_latest": wanted}, 412, "not-latest", Prefer="return=minimal")
        assert short["latest"] == {"uuid": second["uuid"], "id": second["id"]}


def test_the_latest_of_an_event_that_never_was_is_null(ada: httpx.Client) -> None:
    other = stored(ada, new())
    for wanted in (UNKNOWN, other["uuid"], other["id"], f"{other['id'].partition('-')[0]}-0"):
        problem = refused(ada, new(if_latest=wanted), 412, "not-latest")
        assert problem["latest"] is None


def test_a_removed_event_has_no_state_and_its_removal_is_its_latest(ada: httpx.Client) -> None:
    body = new()
    stored(ada, body)
    removal = stored(ada, body | {"data": None})
    assert refused(ada, body | {"if_latest": UNKNOWN}, 412, "not-latest")["latest"] == removal
    again = stored(ada, body | {"if_latest": removal["id"]})
    stored(ada, body | {"data": None, "if_latest": again["uuid"]})
    stored(ada, body | {"if_latest": "none"})


def test_a_pending_record_is_not_the_latest(ada: httpx.Client) -> None:
    body = new()
    pending = stored(ada, body | {"timestamp": LATER})
    assert refused(ada, body | {"if_latest": pending["uuid"]}, 412, "not-latest")["latest"] is None
    stored(ada, body | {"if_latest": "none"})


@pytest.mark.parametrize("wanted", ["", "None", "any", "7", "9f3a1c07", "9F3A1C07-1", "9f3a1c07-01", " none", "none "])
def test_another_form_is_refused(ada: httpx.Client, wanted: str) -> None:
    assert "if_latest: expected" in refused(ada, new(if_latest=wanted), 400, "bad-request")["detail"]


@pytest.mark.parametrize("wanted", [7, True, [], {}])
def test_another_type_is_refused(ada: httpx.Client, wanted: object) -> None:
    assert "if_latest" in refused(ada, new(if_latest=wanted), 400, "bad-request")["detail"]


def test_a_condition_is_about_now(ada: httpx.Client) -> None:
    later = new(if_latest="none", timestamp=LATER)
    assert "if_latest: the condition is judged now" in refused(ada, later, 400, "bad-request")["detail"]
    log_only = new(if_latest="none", published=True)
    assert "if_latest: a log-only record" in refused(ada, log_only, 400, "bad-request")["detail"]
    stored(ada, new(if_latest="none", timestamp=1000))


def test_a_repeated_insert_is_answered_although_its_condition_is_not_met_any_more(ada: httpx.Client) -> None:
    body = new(uuid=str(uuid4()), if_latest="none")
    first = stored(ada, body)
    stored(ada, {"event": body["event"], "data": 2})
    for again in (body, body | {"if_latest": None}, body | {"if_latest": UNKNOWN}):
        answer = ada.post("/insert", json=again)
        assert (answer.status_code, answer.json()) == (200, first)


def test_versions_of_one_batch_may_build_on_each_other(ada: httpx.Client) -> None:
    uuids = [str(uuid4()) for _ in range(3)]
    body = new()
    batch = [body | {"data": n, "uuid": uuids[n], "if_latest": uuids[n - 1] if n else "none"} for n in range(3)]
    answer = ada.post("/insert", json=batch)
    assert answer.status_code == 201
    assert [each["data"] for each in log(ada, body["event"])] == [0, 1, 2]
    fork = [body | {"data": 3, "uuid": str(uuid4()), "if_latest": uuids[2]}, body | {"if_latest": uuids[2]}]
    answer = ada.post("/insert", json=fork)
    assert (answer.status_code, answer.json()["index"]) == (412, 1)
    # All or nothing: the latest is the one before the batch.
    assert answer.json()["latest"]["uuid"] == uuids[2]
    assert len(log(ada, body["event"])) == 3


# late


@pytest.mark.parametrize("more", [{"timestamp": 1000}, {"until": 1000}, {"timestamp": 1000, "until": 2000}], ids=str)
def test_what_must_not_be_late_is_refused_when_it_is(ada: httpx.Client, more: Body) -> None:
    assert "late" in refused(ada, new(late="refuse", **more), 409, "late")["detail"]


def test_a_few_seconds_are_not_late(ada: httpx.Client) -> None:
    stored(ada, new(late="refuse"))
    stored(ada, new(late="refuse", timestamp=time.time() - 2, until=LATER))
    stored(ada, new(late="refuse", timestamp=LATER))
    stored(ada, new(late="publish", timestamp=1000))
    stored(ada, new(late=None, timestamp=1000))
    assert "late" in refused(ada, new(late="refuse", timestamp=time.time() - 7), 409, "late")["detail"]


@pytest.mark.parametrize("late", ["", "Refuse", "no", True, 5])
def test_another_word_for_late_is_refused(ada: httpx.Client, late: object) -> None:
    detail = refused(ada, new(late=late), 400, "bad-request")["detail"]
    assert detail.startswith("late: expected ")
    assert detail == "late: expected refuse or publish" or not isinstance(late, str)


def test_a_repeated_insert_is_not_late(ada: httpx.Client) -> None:
    body = new(uuid=str(uuid4()), timestamp=time.time() - 4, late="refuse")
    first = stored(ada, body)
    wait_for(lambda: time.time() - body["timestamp"] > 5.1)
    answer = ada.post("/insert", json=body)
    assert (answer.status_code, answer.json()) == (200, first)


# Cancels in a batch


def cancel(uuid: str) -> Body:
    return {"cancel": uuid}


def in_lines(client: httpx.Client, batch: list[Body], **headers: str) -> httpx.Response:
    content = "\n".join(map(json.dumps, batch))
    return client.post("/insert", content=content, headers={"Content-Type": "application/x-ndjson", **headers})


def in_an_array(client: httpx.Client, batch: list[Body], **headers: str) -> httpx.Response:
    return client.post("/insert", json=batch, headers=headers)


Send = Callable[..., httpx.Response]
both = pytest.mark.parametrize("send", [in_an_array, in_lines])


@both
def test_a_batch_moves_what_is_pending_to_another_time(ada: httpx.Client, send: Send) -> None:
    body = new(timestamp=LATER)
    pending = stored(ada, body)
    answer = send(ada, [cancel(pending["uuid"]), body | {"timestamp": LATER + 1}])
    assert answer.status_code == 201
    cancelled, moved = answer.json()
    assert cancelled == pending | {"published": True, "cancelled": True}
    assert ada.get("/pending", params={"event": body["event"]}).json() == [moved]
    assert log(ada, body["event"]) == [cancelled, moved]


@both
def test_cancels_alone_may_be_repeated(ada: httpx.Client, send: Send) -> None:
    uuids = [stored(ada, new(timestamp=LATER))["uuid"] for _ in range(3)]
    first = send(ada, [cancel(uuid) for uuid in uuids])
    assert (first.status_code, [each["cancelled"] for each in first.json()]) == (200, [True] * 3)
    again = send(ada, [cancel(uuid) for uuid in uuids])
    assert (again.status_code, again.json()) == (200, first.json())
    short = send(ada, [cancel(uuid) for uuid in uuids], Prefer="return=minimal")
    assert short.json() == [{"uuid": uuid, "id": None} for uuid in uuids]


@both
def test_a_batch_may_cancel_what_it_has_inserted(ada: httpx.Client, send: Send) -> None:
    body = new(timestamp=LATER, uuid=str(uuid4()))
    answer = send(ada, [body, cancel(body["uuid"])])
    assert answer.status_code == 201
    assert [each["cancelled"] for each in answer.json()] == [False, True]
    assert log(ada, body["event"]) == [answer.json()[1]]
    # The first of them is a repetition now, so nothing is inserted, and the whole batch may be sent again.
    assert send(ada, [body, cancel(body["uuid"])]).status_code == 200


def test_a_cancel_of_nothing_is_refused_with_its_index(ada: httpx.Client) -> None:
    neighbour = new()
    for send in (in_an_array, in_lines):
        answer = send(ada, [neighbour, cancel(UNKNOWN)])
        assert (answer.status_code, answer.json()["index"]) == (404, 1)
        assert answer.json()["type"] == "urn:broker:problem:not-found"
    assert log(ada, neighbour["event"]) == []


def test_a_cancel_whose_bytes_are_not_utf_8_is_refused_like_any_line(ada: httpx.Client) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = ada.post("/insert", content=b'{"cancel":"\xff\xfe"}\n', headers=headers)
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["detail"]


def test_a_record_may_have_a_uuid_that_is_null_and_then_another_one(ada: httpx.Client) -> None:
    """The command line relies on it: the last of two equal names counts."""
    uuid = str(uuid4())
    body = f'{{"event":"cond/twice","data":1,"uuid":null,"uuid":"{uuid}"}}'.encode()
    assert ada.post("/insert", content=body, headers=JSON).json()["uuid"] == uuid


@pytest.mark.parametrize("more", [{}, {"timestamp": 1000}, {"published": True}], ids=str)
def test_a_cancel_that_is_too_late_is_refused_with_its_index(ada: httpx.Client, more: Body) -> None:
    over, neighbour, pending = stored(ada, new(**more)), new(), stored(ada, new(timestamp=LATER))
    for send in (in_an_array, in_lines):
        answer = send(ada, [cancel(pending["uuid"]), neighbour, cancel(over["uuid"])])
        assert (answer.status_code, answer.json()["index"]) == (409, 2)
        assert answer.json()["type"] == "urn:broker:problem:conflict"
    assert log(ada, neighbour["event"]) == []
    assert log(ada, pending["event"]) == [pending]  # its cancel was undone


def test_what_somebody_has_withdrawn_does_not_come_back_at_another_time(ada: httpx.Client) -> None:
    pending = stored(ada, new(timestamp=LATER))
    ada.post(f"/cancel/{pending['uuid']}")
    moved = new(timestamp=LATER + 1)
    answer = in_an_array(ada, [cancel(pending["uuid"]), moved])
    assert (answer.status_code, answer.json()["index"]) == (409, 0)
    assert log(ada, moved["event"]) == []


def test_a_batch_that_moved_a_record_may_be_repeated(ada: httpx.Client) -> None:
    pending = stored(ada, new(timestamp=LATER))
    batch = [cancel(pending["uuid"]), new(timestamp=LATER, uuid=str(uuid4()))]
    first = in_an_array(ada, batch)
    again = in_an_array(ada, batch)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


@pytest.mark.parametrize(
    "item",
    [
        {"cancel": "7"},
        {"cancel": ""},
        {"cancel": None},
        {"cancel": 7},
        {"cancel": UNKNOWN, "event": "e", "data": 1},
        {},
    ],
    ids=str,
)
def test_a_bad_item_is_refused_with_its_index(ada: httpx.Client, item: Body) -> None:
    neighbour = new()
    for send in (in_an_array, in_lines):
        answer = send(ada, [neighbour, item])
        assert (answer.status_code, answer.json()["index"]) == (400, 1), answer.text
        assert answer.json()["type"] == "urn:broker:problem:bad-request"
        if list(item) == ["cancel"] and isinstance(item["cancel"], str):
            assert answer.json()["detail"].startswith("record 1: cancel: expected 36 characters")
    assert log(ada, neighbour["event"]) == []


def test_a_cancel_outside_of_a_batch_has_an_address_of_its_own(ada: httpx.Client) -> None:
    pending = stored(ada, new(timestamp=LATER))
    for text in (json.dumps(cancel(pending["uuid"])), '\n{ "cancel": 7 }'):
        answer = ada.post("/insert", content=text, headers=JSON)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("cancel: it is an item of a batch: send an array, or POST /cancel/")
    assert log(ada, pending["event"]) == [pending]


def test_data_may_speak_of_cancelling(ada: httpx.Client) -> None:
    body = new({"cancel": UNKNOWN})
    assert in_an_array(ada, [body, cancel(stored(ada, new(timestamp=LATER))["uuid"])]).status_code == 201
    assert log(ada, body["event"])[0]["data"] == body["data"]
