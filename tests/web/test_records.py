"""Streams of whole records, and what a stream resumes with: `frames=record`, `new`, and `POST /events`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import JSON, problem
from tests.support.servers import BOUND_S, Frame, ServerProcess, streaming, wait_for


def insert(client: httpx.Client, event: str, data: object, **more: object) -> dict[str, Any]:
    answer = client.post("/insert", json={"event": event, "data": data, **more})
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


def until_ready(server: ServerProcess, path: str = "/events", **options: Any) -> list[Frame]:
    """What a stream begins with, without ``$ready``."""
    with streaming(server, path, **options) as reader:
        frames = reader.wait("$ready")
    return frames[:-1]


def bearer(server: ServerProcess, username: str) -> str:
    return f"Authorization: Bearer {server.token(username)}\r\n"


def shown(record: dict[str, Any], *, user: bool) -> dict[str, Any]:
    """The record of an insert's response, as a stream shows it."""
    names = ["id", "uuid", "event", *(["user"] if user else []), "timestamp", *(["until"] if "until" in record else [])]
    return {name: record[name] for name in [*names, "published_at", "data"]}


# Record frames


@pytest.mark.parametrize("with_token", [False, True], ids=["without a token", "with a token"])
@pytest.mark.parametrize("query", ["event=rec/{0}/a&event=rec/{0}/b", "event=rec/{0}/*"])
def test_a_record_frame_is_the_record_and_has_its_user_for_readers_with_a_token(
    server: ServerProcess, ada: httpx.Client, with_token: bool, query: str
) -> None:
    name = f"{len(query)}{with_token}"
    query = query.format(name)
    one = insert(ada, f"rec/{name}/a", {"b": 1, "a": [None]}, timestamp=1.5)
    two = insert(ada, f"rec/{name}/b", "é", until=32503680000.25)
    insert(ada, f"rec/other/{name}", 0)
    headers = bearer(server, "ada") if with_token else ""
    with streaming(server, f"/events?{query}&frames=record", headers=headers) as reader:
        reader.wait("$ready")
        three = insert(ada, f"rec/{name}/a", None)  # live
        frames = reader.wait("message", 3)
    messages = [frame for frame in frames if frame.event == "message"]
    assert [frame.json() for frame in messages] == [shown(each, user=with_token) for each in (one, two, three)]
    assert [list(frame.json()) for frame in messages] == [list(shown(e, user=with_token)) for e in (one, two, three)]
    assert [frame.id for frame in messages] == [each["id"] for each in (one, two, three)]
    assert {frame.event for frame in frames} == {"message", "$ready"}, "Broker's own events keep their names"


def test_a_replay_has_record_frames_too(server: ServerProcess, ada: httpx.Client) -> None:
    records = [insert(ada, "rec/replayed", n) for n in range(5)]
    frames = until_ready(server, "/events?event=rec/replayed&frames=record", last_id=records[1]["id"])
    assert [frame.json() for frame in frames] == [shown(each, user=False) for each in records[2:]]


def test_both_forms_of_one_turn_go_to_their_streams(server: ServerProcess, ada: httpx.Client) -> None:
    asked = [
        ("event=turn/a", ""), ("event=turn/a&frames=record", ""), ("event=turn/*&frames=record", ""),
        ("event=turn/a&frames=record", bearer(server, "ada")),
    ]  # fmt: skip
    with ExitStack() as open_streams:
        readers = [
            open_streams.enter_context(streaming(server, f"/events?{query}", headers=headers))
            for query, headers in asked
        ]
        for reader in readers:
            reader.wait("$ready")
        records = ada.post("/insert", json=[{"event": "turn/a", "data": n} for n in range(3)]).json()
        for reader in readers:
            wait_for(lambda reader=reader: len(reader.records()) == 3)  # type: ignore[misc] # mypy sees no type for the default
    named, *anonymous, known = ([frame.json() for frame in reader.records()] for reader in readers)
    assert named == [0, 1, 2]
    assert anonymous == [[shown(each, user=False) for each in records]] * 2
    assert known == [shown(each, user=True) for each in records]


@pytest.mark.parametrize("query", ["", "?frames=record"])
def test_an_invalid_token_is_refused_on_every_stream(server: ServerProcess, query: str) -> None:
    headers = {"Authorization": "Bearer not.a.token"}
    answer = httpx.get(f"{server.url}/events{query}", headers=headers)
    assert problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("frames", ["x", "", "records", "RECORD", "record&frames=x"])
def test_another_form_than_record_is_refused(server: ServerProcess, frames: str) -> None:
    assert problem(httpx.get(f"{server.url}/events?frames={frames}"), 400).startswith(
        "frames: the only possible value is record"
    )


def test_where_streams_need_a_token_record_frames_need_it_too(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, events_public="no") as server, server.client("ada") as client:
        assert problem(httpx.get(f"{server.url}/events?frames=record"), 401)
        record = insert(client, "e", 1)
        headers = bearer(server, "ada")
        assert until_ready(server, "/events?frames=record", headers=headers)[0].json() == shown(record, user=True)


# new


def test_new_gives_the_latest_of_a_name_without_an_id_and_then_resumes_all_from_the_id(
    server: ServerProcess, ada: httpx.Client
) -> None:
    insert(ada, "new/mounted", "old")
    insert(ada, "new/mounted", "latest")
    insert(ada, "new/shown", "seen")
    last = insert(ada, "new/shown", "seen too")["id"]
    insert(ada, "new/shown", "missed")
    for form, event in (("", "new/mounted"), ("&frames=record", "message")):
        path = f"/events?event=new/shown&event=new/mounted&new=new/mounted{form}"
        first, second = until_ready(server, path, last_id=last)
        data = [frame.json()["data"] if form else frame.json() for frame in (first, second)]
        assert (first.id, first.event, data) == ("", event, ["latest", "missed"])
        assert second.position == int(last.rpartition("-")[2]) + 1


def test_new_gives_a_name_that_has_changed_meanwhile_with_the_records_that_were_missed(
    server: ServerProcess, ada: httpx.Client
) -> None:
    insert(ada, "changed/mounted", "old")
    last = insert(ada, "changed/shown", 1)["id"]
    for n in (2, 3):
        insert(ada, "changed/mounted", n)
        insert(ada, "changed/shown", n)
    frames = until_ready(server, "/events?event=changed/*&event=changed/m*&new=changed/m*", last_id=last)
    assert [(frame.event, frame.json()) for frame in frames] == [
        ("changed/mounted", 2), ("changed/shown", 2), ("changed/mounted", 3), ("changed/shown", 3),
    ]  # fmt: skip
    assert all(frame.id for frame in frames)


def test_new_gives_nothing_for_a_name_that_is_removed(server: ServerProcess, ada: httpx.Client) -> None:
    insert(ada, "gone/mounted", 1)
    last = insert(ada, "gone/mounted", None)["id"]
    assert until_ready(server, "/events?event=gone/mounted&new=gone/mounted", last_id=last) == []


def test_with_an_unknown_id_new_makes_no_difference(server: ServerProcess, ada: httpx.Client) -> None:
    insert(ada, "unknown/mounted", 1)
    frames = until_ready(server, "/events?event=unknown/mounted&new=unknown/mounted", last_id="ffffffff-1")
    assert [frame.event for frame in frames] == ["$reset", "unknown/mounted"]
    assert frames[1].id


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("event=a&new=a", "new: it needs the id"),
        ("event=a&new=b&last_event_id=x", "new: b is not among the values of event"),
        ("event=a*&new=ab&last_event_id=x", "new: ab is not among the values of event"),
        ("new=a&last_event_id=x", "new: a is not among the values of event"),
        ("event=a&new=&last_event_id=x", "event: the name is empty"),
        ("event=a&last_event_id=x" + "&new=a" * 101, "event: 101 filters"),
    ],
)
def test_a_new_that_cannot_be_meant_is_refused(server: ServerProcess, query: str, detail: str) -> None:
    assert problem(httpx.get(f"{server.url}/events?{query}"), 400).startswith(detail)


# POST /events


def test_a_post_opens_the_same_stream_as_a_get(server: ServerProcess, ada: httpx.Client) -> None:
    ids = [insert(ada, f"post/{name}", name)["id"] for name in ("a", "b", "c", "b")]
    same: list[tuple[str, dict[str, object]]] = [
        ("event=post/a", {"event": "post/a"}),
        ("event=post/a", {"event": ["post/a"], "new": None, "last_event_id": None, "frames": None, "heartbeat": None}),
        ("event=post/a&event=post/b", {"event": ["post/a", "post/b"]}),
        ("event=post/*&frames=record", {"event": ["post/*"], "frames": "record"}),
        (f"event=post/*&last_event_id={ids[1]}", {"event": "post/*", "last_event_id": ids[1]}),
        (
            f"event=post/b&event=post/a&new=post/a&last_event_id={ids[1]}",
            {"event": ["post/b", "post/a"], "new": "post/a", "last_event_id": ids[1]},
        ),
    ]
    for query, body in same:
        by_get = until_ready(server, f"/events?{query}")
        assert by_get
        assert until_ready(server, body=body) == by_get, body


def test_a_post_without_parameters_is_a_stream_of_everything(server: ServerProcess, ada: httpx.Client) -> None:
    insert(ada, "post/everything", 1)
    bodies: list[dict[str, object]] = [{}, {"event": None}, {"event": []}, {"event": "*"}]
    for body in bodies:
        with streaming(server, body=body) as reader:
            reader.wait("$ready")
            insert(ada, "post/everything", 2)
            assert reader.wait("post/everything", 2)[-1].data == "2"


def test_a_post_resumes_by_the_header_rather_than_by_the_body(server: ServerProcess, ada: httpx.Client) -> None:
    ids = [insert(ada, "post/resumed", n)["id"] for n in range(3)]
    body = {"event": "post/resumed", "last_event_id": ids[0]}
    assert [frame.data for frame in until_ready(server, body=body, last_id=ids[1])] == ["2"]


def test_a_stream_that_a_post_opened_is_live_and_has_heartbeats(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, heartbeat_s=0.2) as server,
        streaming(server, body={"heartbeat": "event", "event": "e"}) as reader,
        server.client("ada") as client,
    ):
        reader.wait("$heartbeat", 2)
        insert(client, "e", 1)
        reader.wait("e")
        assert reader.ended == ""


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"events":["a"]}', "object contains unknown field `events`"),
        (b'{"event":1}', "event: "),
        (b'{"event":[1]}', "event[0]: "),
        (b'{"event":""}', "event: the name is empty"),
        (b'{"event":["$rules"]}', "event: names that start with $"),
        (b'{"event":["a\\ud800"]}', "event: half a surrogate pair"),
        (b'{"frames":"x"}', "frames: the only possible value is record"),
        (b'{"frames":["record"]}', "frames: "),
        (b'{"heartbeat":"x"}', "heartbeat: the only possible value is event"),
        (b'{"new":["a"]}', "new: it needs the id"),
        (b'{"event":["a"],"new":["b"],"last_event_id":"x"}', "new: b is not among"),
        (b'{"last_event_id":"' + b"x" * 1_001 + b'"}', "last_event_id: "),
        (b"[]", "expected `object`"),
        (b"", "the body is empty"),
    ],
)
def test_a_body_that_is_no_stream_is_refused(server: ServerProcess, body: bytes, detail: str) -> None:
    answer = httpx.post(f"{server.url}/events", content=body, headers=JSON)
    assert problem(answer, 400).startswith(detail)


def test_parameters_in_the_url_of_a_post_are_refused(server: ServerProcess) -> None:
    """They would be overlooked, and the stream would be another one."""
    answer = httpx.post(f"{server.url}/events?event=a", json={})
    assert problem(answer, 400).startswith("POST /events: the parameters belong in the body")


def test_a_post_of_another_type_or_size_is_refused(server: ServerProcess) -> None:
    assert problem(httpx.post(f"{server.url}/events", content=b"{}"), 415)
    for size in (300_000, 1_048_577):
        big = b'{"event":["' + b"x" * size + b'"]}'
        assert problem(httpx.post(f"{server.url}/events", content=big, headers=JSON, timeout=BOUND_S), 413)
    assert problem(httpx.post(f"{server.url}/events", json={"event": ["a"] * 101}), 400).startswith("event: 101")
