"""What a stream is asked for: its address and headers, as libraries, proxies and misspelling people send them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.answers import problem
from tests.support.servers import BOUND_S, Frame, ServerProcess, StreamReader, streaming

EVENT = "stream/counted"


@pytest.fixture(scope="module")
def ids(ada: httpx.Client) -> list[str]:
    """Of five records, which have the data 0 to 4."""
    return [ada.post("/insert", json={"event": EVENT, "data": n}).json()["id"] for n in range(5)]


def resumed(server: ServerProcess, query: str = "", *header_lines: bytes) -> list[str]:
    """The data of what a stream of ``EVENT`` begins with."""
    with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as sock:
        lines = [f"GET /events?event={EVENT}{query} HTTP/1.1".encode(), b"Host: localhost", *header_lines, b"", b""]
        sock.sendall(b"\r\n".join(lines))
        reader = StreamReader(sock)
        reader.start()
        frames = reader.wait("$ready")
        reader.close()
    assert not any(frame.event == "$reset" for frame in frames), "its state would be thrown away"
    return [frame.data for frame in frames[:-1]]


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "Last-Event-ID", "lastEventID", "LASTEVENTID"])
def test_the_last_id_may_be_in_the_address_in_any_spelling(server: ServerProcess, ids: list[str], name: str) -> None:
    """event-source-polyfill puts it there, and nowhere else."""
    assert resumed(server, f"&{name}={ids[2]}") == ["3", "4"]


@pytest.mark.parametrize(
    "more",
    [
        "_=1700000000", "t=17", "&&", "utm_source=x", "fbclid=x", "v=2", "nocache", "cb=%20", "token=secret", "a=b&c=d",
        "ver=1&_cachebust=2&rand=0.5", "x-cdn-verify=a%2Fb", "callback=f", "=", "timestamp=1",
    ],
)  # fmt: skip
def test_what_proxies_and_libraries_add_to_an_address_is_ignored(
    server: ServerProcess, ids: list[str], more: str
) -> None:
    assert resumed(server, f"&last_event_id={ids[3]}&{more}") == ["4"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *[(word, "event") for word in ("events", "evnet", "evet", "event[]", "eventname", "event_type")],
        *[(word, "event") for word in ("topic", "topics", "channel", "channels", "filter", "Filters", "chanel")],
        *[(word, "event") for word in ("topic[]", "channels[0]", "filter[event]", "events[]")],
        *[(word, "last_event_id") for word in ("since", "cursor", "lasteventsid", "last_id", "lastId", "since[]")],
        *[(word, "last_event_id") for word in ("event_id", "eventId", "id")],
        *[(word, "heartbeat") for word in ("heartbeats", "heart-beats", "hearbeat")],
    ],
)
def test_what_looks_like_a_misspelt_filter_or_id_is_refused_with_the_right_name(
    server: ServerProcess, name: str, meant: str
) -> None:
    """Ignored, it would be a stream of everything, or from the beginning."""
    answer = httpx.get(f"{server.url}/events?{name}=sale")
    assert problem(answer, 400) == f"{name}: there is no such parameter; use {meant}"


@pytest.mark.parametrize("name", ["token", "jwt", "access_token", "authorization", "x"])
def test_a_token_in_the_address_is_refused(server: ServerProcess, name: str) -> None:
    token = server.token("ada")
    answer = httpx.get(f"{server.url}/events?{name}={token}")
    assert "never read from the URL" in problem(answer, 400)
    assert token not in answer.text


def test_more_parameters_than_anybody_has_are_refused(server: ServerProcess) -> None:
    assert "1000 parameters" in problem(httpx.get(f"{server.url}/events?" + "a&" * 1000), 400)
    assert "50 unknown parameters" in problem(httpx.get(f"{server.url}/events?" + "ditnevetsal=&" * 51), 400)


def headers_with(ids: list[str]) -> Iterator[tuple[list[bytes], list[str]]]:
    old, new = ids[0].encode(), ids[3].encode()
    yield [b"Last-Event-ID: " + new + b" "], ["4"]
    yield [b"Last-Event-ID: \t " + new + b" \t"], ["4"]
    yield [b"Last-Event-ID: " + old + b", " + new], ["4"]  # a saved id, and the library's own behind it
    yield [b"Last-Event-ID: " + old + b"," + new + b", ,"], ["4"]
    yield [b"Last-Event-ID: " + old, b"last-event-id: " + new], ["4"]
    yield [b"Last-Event-ID: " + new, b"Last-Event-ID:"], ["4"]
    yield [b"Last-Event-ID: , "], ["4"]  # none: the latest


def test_of_several_last_ids_the_last_counts_and_blanks_do_not(server: ServerProcess, ids: list[str]) -> None:
    for lines, expected in headers_with(ids):
        assert resumed(server, "", *lines) == expected, lines
    assert resumed(server, f"&last_event_id={ids[0]}&lastEventId={ids[3]}") == ["4"]
    assert resumed(server, f"&last_event_id={ids[0]},+{ids[3]}+") == ["4"]
    assert resumed(server, f"&last_event_id={ids[0]}&last_event_id=") == ["1", "2", "3", "4"]
    assert resumed(server, f"&last_event_id={ids[0]}", b"Last-Event-ID: " + ids[3].encode()) == ["4"]


@pytest.mark.parametrize("heartbeat", ["", "yes", "15", "comment", "EVENT"])
def test_an_unknown_kind_of_heartbeat_is_refused(server: ServerProcess, heartbeat: str) -> None:
    detail = problem(httpx.get(f"{server.url}/events?heartbeat={heartbeat}"), 400)
    assert detail.startswith("heartbeat: the only possible value is event")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_tells_intermediaries_to_leave_it_as_it_is(server: ServerProcess, method: str) -> None:
    """Compressed, a stream would be held back: the middleware of many development servers does so without this."""
    with httpx.stream(method, f"{server.url}/events") as answer:
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in answer.headers


def test_ready_tells_the_servers_time_and_how_often_a_heartbeat_comes(server: ServerProcess) -> None:
    with streaming(server, "/events?event=stream/none") as reader:
        ready: Frame = reader.wait("$ready")[-1]
    assert list(ready.json()) == ["id", "time", "heartbeat"]
    assert (ready.json()["id"], ready.json()["heartbeat"]) == (ready.id, 15)
    assert abs(ready.json()["time"] - ready.received_us / 1e6) < BOUND_S
