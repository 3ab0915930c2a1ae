"""Clients that were written by others read the stream: httpx-sse and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import httpx
import pytest
from httpx_sse import connect_sse

from tests.support.samples import SAMPLES, insert_all
from tests.support.servers import Frame, ServerProcess

CLIENTS = ["httpx-sse", "curl"]


def read(client: str, server: ServerProcess, query: str, last_id: str = "") -> list[Frame]:
    """All frames of a new stream up to and with its ``$ready``."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with _curl(server.url + query, headers) if client == "curl" else _httpx(server.url + query, headers) as frames:
        got = []
        for frame in frames:
            got.append(frame)
            if frame.event == "$ready":
                return got
    raise AssertionError(f"the stream ended without $ready: {got}")


@contextmanager
def _httpx(url: str, headers: dict[str, str]) -> Iterator[Iterator[Frame]]:
    with httpx.Client(timeout=20) as client, connect_sse(client, "GET", url, headers=headers) as source:
        yield (Frame(each.id, each.event, each.data) for each in source.iter_sse())


@contextmanager
def _curl(url: str, headers: dict[str, str]) -> Iterator[Iterator[Frame]]:
    command = shutil.which("curl")
    assert command is not None, "curl is needed for this test"
    options = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    with subprocess.Popen(
        [command, "--silent", "--show-error", "--fail", "--no-buffer", "--globoff", "--max-time", "20", *options, url],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            yield _frames(process.stdout)
        finally:
            process.terminate()


def _frames(output: IO[bytes]) -> Iterator[Frame]:
    """What a shell script would do with curl's output: lines of ``name: value``, a frame at each empty one."""
    fields: dict[str, str] = {}
    for line in output:
        if line != b"\n":
            name, _, value = line.decode().removesuffix("\n").partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Frame(fields.get("id", ""), fields["event"], fields["data"])
            fields = {}


@pytest.mark.parametrize("client", CLIENTS)
def test_data_arrives_to_the_character(client: str, server: ServerProcess, ada: httpx.Client) -> None:
    event = f"exact/{client}"
    [start] = read(client, server, f"/events?event={event}")
    expected = insert_all(ada, event)
    records = read(client, server, f"/events?event={event}", start.id)[:-1]
    for name, frame, data in zip(SAMPLES, records, expected, strict=True):
        assert frame.event == event, name
        assert frame.data == data, name


@pytest.mark.parametrize("client", CLIENTS)
def test_event_names_arrive_to_the_character(client: str, server: ServerProcess, ada: httpx.Client) -> None:
    prefix = f"names/{client}/"
    names = [prefix + name for name in ("\U0001f600", "a b", "x: y", "ä\u2028ö", "%2F", ":", "中" * 70)]
    for name in names:
        assert ada.post("/insert", json={"event": name, "data": name}).status_code == 201
    records = read(client, server, f"/events?event={prefix}*")[:-1]
    assert [frame.event for frame in records] == names
    assert [frame.json() for frame in records] == names


@pytest.mark.parametrize("client", CLIENTS)
def test_a_first_connect_gets_the_snapshot(client: str, server: ServerProcess, ada: httpx.Client) -> None:
    prefix = f"snapshot/{client}/"
    for number, name in enumerate("abcab"):
        ada.post("/insert", json={"event": prefix + name, "data": number})
    *records, ready = read(client, server, f"/events?event={prefix}*")
    assert [(frame.event[-1], frame.data) for frame in records] == [("c", "2"), ("a", "3"), ("b", "4")]
    assert ready.json()["id"] == ready.id


@pytest.mark.parametrize("client", CLIENTS)
def test_an_id_resumes_by_header_or_query_and_the_header_wins(
    client: str, server: ServerProcess, ada: httpx.Client
) -> None:
    event = f"resume/{client}"
    path = f"/events?event={event}"
    ids = [ada.post("/insert", json={"event": event, "data": number}).json()["id"] for number in range(5)]

    def records(query: str, last_id: str = "") -> list[str]:
        return [frame.data for frame in read(client, server, query, last_id)[:-1]]

    assert records(path, ids[1]) == ["2", "3", "4"]
    assert records(f"{path}&last_event_id={ids[2]}") == ["3", "4"]
    assert records(f"{path}&last_event_id={ids[0]}", ids[3]) == ["4"]
    assert records(path, ids[4]) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unknown_id_is_answered_with_reset_and_the_snapshot(
    client: str, server: ServerProcess, ada: httpx.Client
) -> None:
    event = f"reset/{client}"
    ada.post("/insert", json={"event": event, "data": 1})
    ada.post("/insert", json={"event": event, "data": 2})
    frames = read(client, server, f"/events?event={event}", "00000000-1")
    assert [(frame.event, json.loads(frame.data)) for frame in frames[:-1]] == [
        ("$reset", {"reason": "unknown-id"}),
        (event, 2),
    ]
