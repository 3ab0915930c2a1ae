"""``GET /snapshot``: the latest of every event."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker import Broker, Settings
from broker.errors import Unavailable
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.answers import exchange, follow, insert, problem, request_head
from tests.support.operators import tamper
from tests.support.servers import ServerProcess, streaming, wait_for

Records = list[dict[str, Any]]
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def state(ada: httpx.Client) -> dict[str, dict[str, Any]]:
    """The latest of each event below list/."""
    for event in ("list/b", "list/a", "list/gone", "list/Z", "list/é 1", "list/a"):
        insert(ada, event, b'{"n":1.50}', b',"timestamp":1000')
    insert(ada, "list/b", b"2", b',"until":9e9')
    insert(ada, "list/gone", b"null")
    insert(ada, "list/later", b"1", b',"timestamp":9e9')
    insert(ada, "list/only", b"1", b',"published":true')
    logs = {name: ada.get(f"/collections/{name}").json() for name in ("list/Z", "list/a", "list/b", "list/é 1")}
    return {name: log[-1] for name, log in logs.items()}


def test_the_latest_of_every_event_that_is_not_removed_by_name(ada: httpx.Client, state: dict[str, Any]) -> None:
    answer = ada.get("/snapshot?event=list/*")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "Authorization, Cookie, Accept" in answer.headers.get_list("vary")
    assert "link" not in answer.headers
    assert answer.json() == list(state.values())
    assert '"data":{"n":1.50}' in answer.text
    assert {each["event"] for each in ada.get("/snapshot").json()} >= state.keys()


def test_the_newest_first(ada: httpx.Client, state: dict[str, Any]) -> None:
    answer = ada.get("/snapshot?event=list/*&order=newest")
    assert [each["event"] for each in answer.json()] == ["list/b", "list/a", "list/é 1", "list/Z"]
    assert [state[each["event"]] for each in answer.json()] == answer.json()


@pytest.mark.parametrize("order", ["name", "newest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize("headers", [{}, NDJSON], ids=["array", "lines"])
def test_the_pages_are_the_whole(
    ada: httpx.Client, state: dict[str, Any], order: str, limit: int, headers: dict[str, str]
) -> None:
    query = f"/snapshot?event=list/%C3%A9+1&event=list/a&event=list/b*&event=list/Z&order={order}"
    assert follow(ada, f"{query}&limit={limit}", headers) == ada.get(query).json()
    assert len(ada.get(f"{query}&limit={limit}").json()) == min(limit, 4)


def test_the_next_page_keeps_what_was_asked_for(ada: httpx.Client, state: dict[str, Any]) -> None:
    query = "event=list/*&search=LIST&data=no&limit=1"
    answer = ada.get(f"/snapshot?{query}&last_event_id={state['list/b']['id']}")
    assert answer.headers["link"] == '<?event=list/*&search=LIST&data=no&limit=1&after=list/Z>; rel="next"'
    answer = ada.get(f"/snapshot?{query}&order=newest")
    assert answer.headers["link"].endswith(f'&order=newest&before={state["list/b"]["id"]}>; rel="next"')


@pytest.mark.parametrize("event", ["list/none", "list/gone", "list/later", "list/only"])
def test_nothing_is_an_empty_array_and_no_lines(ada: httpx.Client, state: dict[str, Any], event: str) -> None:
    assert ada.get(f"/snapshot?event={event}").text == "[]\n"
    lines = ada.get(f"/snapshot?event={event}", headers=NDJSON)
    assert (lines.status_code, lines.headers["content-type"], lines.text) == (200, "application/x-ndjson", "")


def test_a_search_is_in_names_whatever_the_case(ada: httpx.Client, state: dict[str, Any]) -> None:
    found = ada.get("/snapshot", params={"event": "list/*", "search": "T/z"}).json()
    assert found == [state["list/Z"]]
    assert ada.get("/snapshot", params={"event": "list/*", "search": "É"}).json() == [state["list/é 1"]]
    assert ada.get("/snapshot", params={"event": "list/*", "search": "none"}).json() == []


def test_without_data_every_other_field_is_there(ada: httpx.Client, state: dict[str, Any]) -> None:
    for each, whole in zip(ada.get("/snapshot?event=list/*&data=no").json(), state.values(), strict=True):
        assert each == {name: value for name, value in whole.items() if name != "data"}


def test_who_inserted_a_record_is_for_readers_with_a_token(server: ServerProcess, state: dict[str, Any]) -> None:
    """As in the records of a stream."""
    with server.client() as anyone:
        found = anyone.get("/snapshot?event=list/a").json()
    assert found == [{name: value for name, value in state["list/a"].items() if name != "user"}]


def test_an_ending_removes_and_a_version_that_ends_says_when(ada: httpx.Client, state: dict[str, Any]) -> None:
    assert ada.get("/snapshot?event=list/b").json()[0]["until"] == 9e9
    insert(ada, "list/short", b"1", b',"until":%f' % (time.time() + 0.2))
    assert len(ada.get("/snapshot?event=list/short").json()) == 1
    while ada.get("/snapshot?event=list/short").json():
        time.sleep(0.02)
    ending = ada.get("/collections/list/short?order=desc").json()[0]
    assert ending["data"] is None


def test_head_has_no_body(ada: httpx.Client, state: dict[str, Any]) -> None:
    answer = ada.head("/snapshot?event=list/*&limit=1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers.keys() >= {"etag", "last-event-id", "link"}


def test_http_1_0_gets_no_chunks(server: ServerProcess, ada: httpx.Client, state: dict[str, Any]) -> None:
    head = request_head(ada, "GET /snapshot?event=list/* HTTP/1.0")
    answer, body = exchange(server, head)
    assert "transfer-encoding" not in answer.lower()
    assert json.loads(body) == list(state.values())


# The id of the answer


def test_a_stream_resumes_from_the_id_of_the_answer(server: ServerProcess, ada: httpx.Client) -> None:
    insert(ada, "resume", b"1")
    answer = ada.get("/snapshot?event=resume")
    insert(ada, "resume", b"2")
    with streaming(server, "/events?event=resume", last_id=answer.headers["last-event-id"]) as stream:
        frames = stream.wait("$ready")
    assert [frame.data for frame in frames if frame.event == "resume"] == ["2"]
    assert answer.json()[0]["data"] == 1


def test_the_id_in_the_query_is_waited_for(ada: httpx.Client) -> None:
    """Ids that this node has passed, its own and those of the responses to inserts."""
    for n in range(20):
        event_id = insert(ada, "own", b"%d" % n).json()["id"]
        answer = ada.get(f"/snapshot?event=own&last_event_id={event_id}")
        assert answer.json()[0]["data"] == n
    epoch = answer.headers["last-event-id"].partition("-")[0]
    assert ada.get(f"/snapshot?last_event_id={epoch}-0").status_code == 200


@pytest.mark.parametrize("parameter", ["last_event_id", "before"])
def test_an_id_that_this_log_has_never_issued_is_refused(ada: httpx.Client, parameter: str) -> None:
    order = "&order=newest" if parameter == "before" else ""
    assert f"{parameter}: this log has never issued" in problem(
        ada.get(f"/snapshot?{parameter}=00000000-1{order}"), 400
    )
    assert f"{parameter}: expected an id" in problem(ada.get(f"/snapshot?{parameter}=7{order}"), 400)


def test_an_id_ahead_of_the_log_is_refused_at_once(ada: httpx.Client) -> None:
    epoch = ada.get("/snapshot?limit=1").headers["last-event-id"].partition("-")[0]
    began = time.monotonic()
    assert "never issued" in problem(ada.get(f"/snapshot?last_event_id={epoch}-999999999"), 400)
    assert time.monotonic() - began < 5


# The ETag


def test_an_unchanged_answer_is_a_304(ada: httpx.Client, server: ServerProcess) -> None:
    insert(ada, "tagged", b"1")
    first = ada.get("/snapshot?event=tagged")
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = ada.get("/snapshot?event=tagged", headers={"If-None-Match": sent})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["last-event-id"] == first.headers["last-event-id"]
        assert "Authorization, Cookie, Accept" in again.headers.get_list("vary")
    insert(ada, "another", b"1")
    answer = ada.get("/snapshot?event=tagged", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()) == (200, first.json())


def test_every_different_answer_has_another_tag(ada: httpx.Client, server: ServerProcess) -> None:
    queries = [
        "", "event=a", "event=a*", "event=b", "order=newest", "limit=1", "limit=2", "after=a", "search=a", "data=no",
        "event=a&event=b",
    ]  # fmt: skip
    with server.client() as anyone:
        answers = [client.get(f"/snapshot?{query}") for client in (ada, anyone) for query in queries]
        answers += [ada.get("/snapshot", headers=NDJSON)]
    assert len({answer.headers["last-event-id"] for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == len(answers)
    assert ada.get("/snapshot?event=b&event=a").headers["etag"] == answers[10].headers["etag"]  # the same answer


def test_a_page_of_another_origin_may_read_the_headers_and_send_a_tag(ada: httpx.Client) -> None:
    origin = {"Origin": "http://localhost:3000"}
    answer = ada.get("/snapshot?limit=1", headers=origin)
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"ETag", "Last-Event-ID", "Link"} <= set(exposed)
    assert answer.headers.get_list("vary") == ["Authorization, Cookie, Accept", "Origin"]
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    preflight = ada.options("/snapshot", headers=origin | asked)
    assert "If-None-Match" in preflight.headers["access-control-allow-headers"]


# Refusals


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "limit: expected 1 to 1000"), ("limit=1001", "limit: expected 1 to 1000"), ("limit=", "limit: "),
        ("order=up", "order: expected name or newest"),
        ("order=up&order=name", "order: it was given more than once"),
        ("limit=1&limit=1", "limit: it was given more than once"),
        ("data=yes", "data: the only possible value is no"),
        ("order=newest&after=a", "after: it is for the order by name"), ("before=00000000-1", "before: it is for"),
        ("event=$ready", "reserved"), ("event=", "empty"), ("event=a*b", "no *"), ("topic=a", "use event"),
        ("q=a", "use search"), ("since=1", "use last_event_id"), ("_=1", "there is no such parameter"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_and_named(ada: httpx.Client, query: str, sentence: str) -> None:
    assert sentence in problem(ada.get(f"/snapshot?{query}"), 400)


def test_too_many_filters_are_refused(ada: httpx.Client) -> None:
    assert "at most 100" in problem(ada.get("/snapshot?" + "&".join(f"event=e{n}" for n in range(101))), 400)


def test_a_token_that_is_sent_must_be_valid(server: ServerProcess) -> None:
    with server.client() as anyone:
        answer = anyone.get("/snapshot", headers={"Authorization": "Bearer eyJ.eyJ.x"})
        problem(answer, 401)
        assert anyone.get("/snapshot").status_code == 200


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("closed")
    with ServerProcess(folder, events_public="no", snapshot_responses_max=2, subscriber_stall_s=3) as running:
        yield running


def test_where_events_are_not_public_a_token_is_needed(closed: ServerProcess) -> None:
    with closed.client() as anyone, closed.client("ada") as ada:
        assert problem(anyone.get("/snapshot"), 401)
        tag = ada.get("/snapshot").headers["etag"]
        problem(anyone.get("/snapshot", headers={"If-None-Match": tag}), 401)
        assert ada.get("/snapshot").json() == []


# Size


def test_a_large_state_is_whole_and_slow_readers_of_it_are_limited(closed: ServerProcess) -> None:
    """A reader that stops keeps records in memory, so there may be only so many. When they close their connections,
    others are served again."""
    with closed.client("ada") as ada:
        for n in range(9):
            insert(ada, f"large/{n}", b'"%b"' % (b"x" * 1_000_000))
        assert [len(each["data"]) for each in ada.get("/snapshot").json()] == [1_000_000] * 9
        assert len(ada.get("/snapshot", headers=NDJSON).text.splitlines()) == 9
        with ExitStack() as readers:
            for _ in range(2):
                sock = readers.enter_context(socket.create_connection(("127.0.0.1", closed.port)))
                sock.sendall(request_head(ada, "GET /snapshot HTTP/1.1"))
                assert sock.recv(12) == b"HTTP/1.1 200"
            refused = ada.get("/snapshot")
            assert "snapshot_responses_max" in problem(refused, 503)
            assert refused.headers["retry-after"]
            current = {"If-None-Match": ada.get("/snapshot", headers={"If-None-Match": "*"}).headers["etag"]}
            assert ada.get("/snapshot", headers=current).status_code == 304  # it needs no memory
        wait_for(lambda: ada.get("/snapshot").status_code == 200)


def test_one_client_cannot_take_the_state_from_the_others(tmp_path: Path) -> None:
    """By reading slowly: one address gets a quarter of the places. The test's own address is that of a trusted proxy,
    so the addresses of the header count."""
    ours, theirs = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
    with (
        ServerProcess(tmp_path, "--open", snapshot_responses_max=8) as server,
        server.client("ada") as ada,
        ExitStack() as readers,
    ):
        for n in range(9):
            insert(ada, f"large/{n}", b'"%b"' % (b"x" * 1_000_000))
        for _ in range(2):
            sock = readers.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sock.sendall(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert "snapshot_responses_max" in problem(ada.get("/snapshot", headers=ours), 503)
        assert ada.get("/snapshot?event=large/1", headers=theirs).status_code == 200


def test_a_reader_that_stops_is_cut_off(closed: ServerProcess) -> None:
    with closed.client("ada") as ada, ExitStack() as readers:
        insert(ada, "large", b'"%b"' % (b"x" * 1_000_000))
        for _ in range(2):
            sock = readers.enter_context(socket.create_connection(("127.0.0.1", closed.port)))
            sock.sendall(request_head(ada, "GET /snapshot HTTP/1.1"))
            assert sock.recv(12) == b"HTTP/1.1 200"
        problem(ada.get("/snapshot"), 503)
        wait_for(lambda: ada.get("/snapshot").status_code == 200)


def test_an_id_of_an_epoch_that_the_node_has_not_noticed_yet_is_for_later(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, relay_poll_s=1_000) as server, server.client("ada") as ada:
        insert(ada, "e")
        for statement in ("UPDATE epochs SET ended = 1", "INSERT INTO epochs VALUES ('0e0e0e0e', NULL)"):
            tamper(tmp_path, statement)
        answer = ada.get("/snapshot?last_event_id=0e0e0e0e-1")
        assert "new epoch" in problem(answer, 503)
        assert answer.headers["retry-after"]


@pytest.mark.anyio
async def test_an_answer_from_memory_needs_no_store(tmp_path: Path) -> None:
    """Neither the state nor a 304 is read from the database, which is closed here."""
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(App(broker))) as client:
        await broker.insert([NewRecord(make_uuid(1), "e", b"1", "ada")], OPERATOR)
        await broker.store.stop()
        with pytest.raises(Unavailable):
            await broker.store.head()
        answer = await client.get("http://localhost/snapshot")
        assert [each["data"] for each in answer.json()] == [1]
        again = await client.get("http://localhost/snapshot", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


def test_pages_that_are_read_while_the_head_moves_and_then_the_stream_give_the_exact_state(tmp_path: Path) -> None:
    """The stream resumes from the id of the first page: what changed after it was read comes again."""
    with ServerProcess(tmp_path) as server, server.client("ada") as ada:
        for n in range(40):
            insert(ada, f"e{n:02}", b"0")
        state: dict[str, Any] = {}
        first, address, n = "", "/snapshot?limit=7", 0
        while address:
            answer = ada.get(address)
            first = first or answer.headers["last-event-id"]
            state |= {each["event"]: each["data"] for each in answer.json()}
            for _ in range(5):  # events that were read, that will be read, and new ones; some are removed
                n += 1
                insert(ada, f"e{n * 17 % 50:02}", b"null" if n % 3 == 0 else b"%d" % n)
            address = str(answer.url.join(answer.links["next"]["url"])) if "link" in answer.headers else ""
        with streaming(server, last_id=first) as stream:
            for frame in stream.wait("$ready"):
                if not frame.event.startswith("$"):
                    state[frame.event] = frame.json()
        state = {event: data for event, data in state.items() if data is not None}
        assert state == {each["event"]: each["data"] for each in ada.get("/snapshot").json()}
