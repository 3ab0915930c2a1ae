"""The two doors to ``POST /insert``: without ASGI, for requests that arrive whole, and by the ASGI route. Over both,
every byte of the response is the same."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest

from tests.support.rules import apply_rules
from tests.support.servers import BOUND_S, ServerProcess

RULES = """
[[event]]
name = "open/*"
read = "public"
insert = "public"
max_bytes = 100
rate = "1000/minute"

[[event]]
name = "user/*"
read = "user"
insert = "user"

[[event]]
name = "small"
read = "user"
insert = "user"
max_bytes = 5

[[event]]
name = "closed"
read = "nobody"
insert = "nobody"

[[event]]
name = "seldom"
read = "user"
insert = "user"
rate = "1/hour"
"""
# Strangers may not insert where no rate limits them.
WITHOUT_RATES = re.sub("rate = .*", "", RULES).replace('insert = "public"', 'insert = "user"')
OPTIONS = ["--origin", "http://page.example", "--set", "body_bytes_max=2000", "--set", "batch_records_max=5"]
# What is different in any two servers: the time, the uuids that they make, and the epoch of the log.
CHANGES = re.compile(
    rb'(?<="uuid":")[0-9a-f-]{36}|(?<="id":")[^"]*|(?<="timestamp":)[0-9.]+|(?<="inserted_at":)[0-9.]+'
    rb'|(?<="published_at":)[0-9.]+|(?<=try again in )[0-9]+'
)
HEAD = "POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# The last request of each connection. Nothing comes after its response.
END = b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UUID = '"uuid":"00000000-0000-4000-8000-00000000000%d"'

# Each is sent to two servers. "{token}" is a line with a valid token, and "{length}" one with the length of the body.
CASES: dict[str, tuple[str, bytes]] = {
    "one": (HEAD + "{token}{length}", b'{"event":"user/a","data":{"n":1}}'),
    "another order and case": (
        "POST /insert HTTP/1.1\r\n{length}{token}content-TYPE:application/json; charset=UTF8\r\nhost:localhost\r\n",
        b'\xef\xbb\xbf {"data":1 ,"event":"user/a"} \n',
    ),
    "minimal": (HEAD + "Prefer: return=minimal\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "due later": (HEAD + "{token}{length}", b'{"event":"user/a","data":1,"timestamp":9e9,"until":9.1e9}'),
    "removal": (HEAD + "{token}{length}", b'{"event":"user/a","data":null}'),
    "uuid": (HEAD + "{token}{length}", b'{"event":"user/u","data":1,%b}' % (UUID % 1).encode()),
    "uuid again": (HEAD + "{token}{length}", b'{"event":"user/u","data":1,%b}' % (UUID % 1).encode()),
    "uuid of other data": (HEAD + "{token}{length}", b'{"event":"user/u","data":2,%b}' % (UUID % 1).encode()),
    "condition": (HEAD + "{token}{length}", b'{"event":"user/u","data":2,"if_latest":"none"}'),
    "condition, minimal": (
        HEAD + "Prefer: return=minimal\r\n{token}{length}", b'{"event":"user/u","data":2,"if_latest":"none"}',
    ),
    "batch": (HEAD + "{token}{length}", b'[{"event":"user/a","data":1},{"event":"user/b","data":2}]'),
    "batch with a bad record": (HEAD + "{token}{length}", b'[{"event":"user/a","data":1},{"event":"closed","data":2}]'),
    "too many": (HEAD + "{token}{length}", b"[%b]" % b",".join([b'{"event":"user/a","data":1}'] * 6)),
    "lines": (
        "POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n{token}{length}",
        b'{"event":"user/a","data":1}\n{"event":"user/b","data":2}\n',
    ),
    "no batch": (HEAD + "{token}{length}", b"[]"),
    "cancel": (HEAD + "{token}{length}", b'{"cancel":"00000000-0000-4000-8000-000000000001"}'),
    "no JSON": (HEAD + "{token}{length}", b'{"event":"user/a","data":'),
    "no body": (HEAD + "{token}{length}", b""),
    "unknown field": (HEAD + "{token}{length}", b'{"event":"user/a","data":1,"dat":2}'),
    "bad name": (HEAD + "{token}{length}", b'{"event":" ","data":1}'),
    "a name of Broker's": (HEAD + "{token}{length}", b'{"event":"$rules","data":"x"}'),
    "no right": (HEAD + "{token}{length}", b'{"event":"closed","data":1}'),
    "too large for its rule": (HEAD + "{token}{length}", b'{"event":"small","data":"123456"}'),
    "the first of an hour": (HEAD + "{token}{length}", b'{"event":"seldom","data":1}'),
    "the second of an hour": (HEAD + "{token}{length}", b'{"event":"seldom","data":1}'),
    "a stranger": (HEAD + "{length}", b'{"event":"open/a","data":1}'),
    "a stranger without a right": (HEAD + "{length}", b'{"event":"user/a","data":1}'),
    "a bad token": (HEAD + "Authorization: Bearer x.y.z\r\n{length}", b'{"event":"open/a","data":1}'),
    "another scheme": (HEAD + "Authorization: Basic YTpi\r\n{length}", b'{"event":"open/a","data":1}'),
    "two tokens": (HEAD + "{token}{token}{length}", b'{"event":"user/a","data":1}'),
    "no type": ("POST /insert HTTP/1.1\r\nHost: localhost\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "another charset": (
        "POST /insert HTTP/1.1\r\nHost: x\r\nContent-Type: application/json;charset=latin1\r\n{token}{length}", b"1",
    ),
    "compressed": (HEAD + "Content-Encoding: gzip\r\n{token}{length}", b"\x1f\x8b"),
    "too large": (HEAD + "{token}{length}", b'{"event":"user/a","data":"%b"}' % (b"x" * 2_000)),
    "a page": (HEAD + "Origin: http://page.example\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "a page that is refused": (HEAD + "Origin: http://page.example\r\n{length}", b'{"event":"user/a","data":1}'),
    "a page of another origin": (HEAD + "Origin: http://x.example\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "chunks": (
        HEAD + "Transfer-Encoding: chunked\r\n{token}",
        b'5\r\n{"eve\r\n16\r\nnt":"user/a","data":1}\r\n0\r\n\r\n',
    ),
    "trailers": (
        HEAD + "Transfer-Encoding: chunked\r\n{token}",
        b'1b\r\n{"event":"user/a","data":1}\r\n0\r\nAuthorization: Bearer x\r\n\r\n',
    ),
    "waits for permission": (HEAD + "Expect: 100-continue\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "behind a proxy": (HEAD + "X-Forwarded-For: 192.0.2.1\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "an offer of another protocol": (
        HEAD + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{token}{length}", b'{"event":"user/a","data":1}',
    ),
    "another method": (HEAD.replace("POST", "PUT") + "{token}{length}", b'{"event":"user/a","data":1}'),
    "a query": (HEAD.replace("/insert", "/insert?x=1") + "{token}{length}", b'{"event":"user/a","data":1}'),
    "another spelling": (HEAD.replace("/insert", "/%69nsert") + "{token}{length}", b'{"event":"user/a","data":1}'),
    "a whole URL": (HEAD.replace(" /", " http://localhost/") + "{token}{length}", b'{"event":"user/a","data":1}'),
    "the last of its connection": (HEAD + "Connection: close\r\n{token}{length}", b'{"event":"user/a","data":1}'),
    "an older client": (HEAD.replace("1.1", "1.0") + "{token}{length}", b'{"event":"user/a","data":1}'),
}  # fmt: skip


EVENTS = "GET /events{query} HTTP/1.1\r\nHost: localhost\r\n"
# Each opens a stream, or tries to. "{id}" is an id of the server's log, and "{insert}" a whole request to insert.
STREAMS: dict[str, str] = {
    "all": EVENTS.format(query="") + "\r\n",
    "a name": EVENTS.format(query="?event=user/a&_=1") + "{token}\r\n",
    "a prefix": EVENTS.format(query="?event=user/*&event=open/a") + "{token}\r\n",
    "whole records": EVENTS.format(query="?frames=record") + "{token}\r\n",
    "whole records for a stranger": EVENTS.format(query="?frames=record") + "\r\n",
    "heartbeats": EVENTS.format(query="?heartbeat=event") + "{token}\r\n",
    "the list of pending records": EVENTS.format(query="?pending=yes") + "{token}\r\n",
    "the hint alone": EVENTS.format(query="?event=$pending") + "{token}\r\n",
    "resumed by the header": EVENTS.format(query="") + "Last-Event-ID: {id}\r\n{token}\r\n",
    "resumed by the URL": EVENTS.format(query="?last_event_id={id}") + "{token}\r\n",
    "resumed, with new names": EVENTS.format(query="?last_event_id={id}&event=user/a&new=user/a") + "{token}\r\n",
    "an id of another log": EVENTS.format(query="?last_event_id=00000000-1") + "{token}\r\n",
    "no id": EVENTS.format(query="?last_event_id=x") + "{token}\r\n",
    "a user": EVENTS.format(query="?user=ada") + "{token}\r\n",
    "another user": EVENTS.format(query="?user=grace") + "{token}\r\n",
    "a misspelt parameter": EVENTS.format(query="?evnet=a") + "\r\n",
    "a bad value": EVENTS.format(query="?frames=x") + "\r\n",
    "a bad filter": EVENTS.format(query="?event=a*b") + "\r\n",
    "a token in the URL": EVENTS.format(query="?token=eyJh.b.c") + "\r\n",
    "names without a right": EVENTS.format(query="?event=closed") + "{token}\r\n",
    "a bad token": EVENTS.format(query="") + "Authorization: Bearer x.y.z\r\n\r\n",
    "a page": EVENTS.format(query="") + "Origin: http://page.example\r\nAccept: text/event-stream\r\n\r\n",
    "a page of another origin": EVENTS.format(query="") + "Origin: http://other.example\r\n\r\n",
    "a body": EVENTS.format(query="") + "Content-Length: 2\r\n\r\n{{}}",
    "the last of its connection": EVENTS.format(query="") + "Connection: close\r\n\r\n",
    "an older client": EVENTS.format(query="").replace("1.1", "1.0") + "\r\n",
    "the head alone": EVENTS.format(query="").replace("GET", "HEAD") + "Connection: close\r\n\r\n",
    "another spelling": EVENTS.format(query="").replace("events", "%65vents") + "\r\n",
    "a fragment": EVENTS.format(query="#x") + "\r\n",
    "behind a proxy": EVENTS.format(query="") + "X-Forwarded-For: 192.0.2.1\r\n\r\n",
    "after an insert": "{insert}" + EVENTS.format(query="") + "\r\n",
    "before an insert": EVENTS.format(query="") + "\r\n{insert}",
}


class Doors:
    """A server that has both doors, and one that has only that of ASGI. They get the same requests in the same order,
    so they have the same users and events."""

    def __init__(self, *servers: ServerProcess) -> None:
        self.servers = servers
        self.tokens = [each.token("ada") for each in servers]

    def requests(self, name: str) -> list[bytes]:
        """The request of a case for each of the servers."""
        lines, body = CASES[name]
        length = f"Content-Length: {len(body)}\r\n"
        return [
            lines.format(token=f"Authorization: Bearer {token}\r\n", length=length).encode() + b"\r\n" + body
            for token in self.tokens
        ]

    def streams(self, name: str) -> list[bytes]:
        """Does the same for a stream."""
        found = []
        for server, token, insert in zip(self.servers, self.tokens, self.requests("one"), strict=True):
            with server.client() as client:
                event_id = client.get("/snapshot").headers["last-event-id"]
            found.append(
                STREAMS[name]
                .format(token=f"Authorization: Bearer {token}\r\n", id=event_id, insert=insert.decode())
                .encode()
            )
        return found

    def same(self, *parts: list[bytes]) -> list[bytes]:
        """Sends the parts, one after the other, which are those for each of the servers, and then ``END``. Returns the
        first lines of the responses, after it has compared them."""
        with ExitStack() as stack:
            socks = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), BOUND_S))
                for server in self.servers
            ]
            for number, sock in enumerate(socks):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for part in parts:
                    sock.sendall(part[number])
                sock.sendall(END)
            one, other = (responses(b"".join(iter(lambda sock=sock: sock.recv(1 << 16), b""))) for sock in socks)  # type: ignore[misc]
        assert one == other
        return [head.split(b"\r\n")[0] for head, _ in one]

    @contextmanager
    def connections(self) -> Iterator[Connections]:
        with ExitStack() as stack:
            connect = [socket.create_connection(("127.0.0.1", each.port), BOUND_S) for each in self.servers]
            yield Connections(
                [(stack.enter_context(sock), stack.enter_context(sock.makefile("rb"))) for sock in connect]
            )


class Connections:
    """One to each of the servers. They send the same."""

    def __init__(self, both: list[tuple[socket.socket, BinaryIO]]) -> None:
        self.both = both
        for sock, _ in both:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def same(self, requests: list[bytes], count: int = 1, cuts: Sequence[int] = ()) -> bool:
        """Sends the same as ``send``, and compares the responses. Returns False if the connections are closed then."""
        found = self.send(requests, count, cuts)
        assert len({repr(each) for each in found}) == 1, found
        return len(found[0]) == count

    def send(self, requests: list[bytes], count: int = 1, cuts: Sequence[int] = ()) -> list[list[tuple[bytes, bytes]]]:
        """Sends so many requests, which are those for each of the servers, in pieces that end at ``cuts``. Returns what
        each server responds."""
        found = []
        for (sock, stream), request in zip(self.both, requests, strict=True):
            for begin, end in pairwise([0, *(len(request) + cut for cut in cuts), len(request)]):
                sock.sendall(request[begin:end])
            found.append(received(stream, count))
        return found


def start(stream: BinaryIO) -> bytes:
    """The next response, until its end, or until the stream is ready, without what is different in any two servers."""
    head = b"".join(iter(stream.readline, b"\r\n"))
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    body = stream.read(int(length[1])) if length else b""
    while not length and (line := stream.readline()):
        body += line
        if line == b"\n" and b"event: $ready\n" in body:
            break
    body = re.sub(
        rb"(?m)^(retry: |[0-9a-f]+\r$)\d*|[0-9a-f]{8}(?=-\d)|(?<=\"time\":)[0-9.]+", b"-", CHANGES.sub(b"-", body)
    )
    return re.sub(rb"(?m)^(date|content-length): .*", b"", head) + body


def received(stream: BinaryIO, count: int) -> list[tuple[bytes, bytes]]:
    """The next responses, as ``responses`` returns them: fewer than ``count`` if the connection is closed before."""
    found: list[tuple[bytes, bytes]] = []
    with contextlib.suppress(ConnectionResetError):
        while len(found) < count:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (line := stream.readline()):
                    return found
                head += line
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 100 "):
                found += responses(head + stream.read(int(length[1]) if length else 0))
    return found


def responses(sent: bytes) -> list[tuple[bytes, bytes]]:
    """The heads and bodies, without what is different in any two servers. Each body is as long as its head says."""
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        body, sent = sent[:size], sent[size:]
        assert len(body) == size
        assert head.count(b"\r\ndate: ") == (0 if b" 100 " in head else 1)
        head = re.sub(rb"\r\ndate: [^\r]*", b"", head)
        head = re.sub(rb"(?<=\r\nretry-after: )\d+", b"-", head)  # the hour of a rate has begun at another second
        changed = CHANGES.sub(b"-", body)
        found.append((head if changed == body else re.sub(rb"(?<=\r\ncontent-length: )\d+", b"-", head), changed))
    return found


@pytest.fixture(name="doors", scope="module", params=["rates", "no rates"])
def open_doors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Where rates are counted, an insert has to wait for that, and needs a task for it."""
    with ExitStack() as stack:
        servers = []
        for door in ("both", "asgi"):
            server = ServerProcess(tmp_path_factory.mktemp(door), *OPTIONS)
            if door == "asgi":
                server.module = ["tests.support.doors", door]
            servers.append(stack.enter_context(server))
        doors = Doors(*servers)
        for server in servers:
            apply_rules(server, RULES if request.param == "rates" else WITHOUT_RATES)
        yield doors


@pytest.mark.parametrize("name", CASES)
def test_the_response_is_the_same_to_the_byte(doors: Doors, name: str) -> None:
    request = doors.requests(name)
    first, *_ = doors.same(request)
    assert first.startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("name", ["one", "a bad token", "no JSON", "chunks", "the last of its connection"])
def test_it_is_the_same_wherever_the_request_is_divided(doors: Doors, name: str) -> None:
    request = doors.requests(name)
    ends = len(min(request))
    for at in [*range(1, ends, 37), ends - 1]:
        doors.same(
            [each[: len(each) - ends + at] for each in request], [each[len(each) - ends + at :] for each in request]
        )


def test_it_is_the_same_for_many_requests_at_once_in_their_order(doors: Doors) -> None:
    names = ["one", "a stranger", "no JSON", "chunks", "a query", "minimal", "another method", "batch", "a bad token"]
    together = [b"".join(each) for each in zip(*map(doors.requests, names), strict=True)]
    assert len(doors.same(together)) == len(names) + 1


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_starts_with_the_same_bytes(doors: Doors, name: str) -> None:
    found = []
    with doors.connections() as connections:
        for (sock, stream), request in zip(connections.both, doors.streams(name), strict=True):
            sock.sendall(request)
            found.append([start(stream) for _ in range(2 if name == "after an insert" else 1)])
    assert found[0] == found[1]
    assert found[0][-1].startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_when_a_connection_sends_it_again(doors: Doors, name: str) -> None:
    """Each time after the response before it, so that its head is known, and then with another body."""
    request = doors.requests(name)
    other = [each if each.endswith(b"\r\n") else each[:-1] + b"!" for each in request]  # not of one in chunks
    with doors.connections() as connections:
        for again in (request, request, other, request):
            if not connections.same(again):
                break


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_same_for_a_connection_that_sends_anything_in_any_pieces(doors: Doors, seed: int) -> None:
    random = Random(seed)
    names = ["one", "minimal", "chunks", "batch", "no JSON", "a bad token", "a query", "another method", "due later"]
    with doors.connections() as connections:
        for _ in range(40):
            some = random.choices(names, [12, 6, 1, 2, 1, 1, 1, 1, 1], k=random.choice((1, 1, 1, 2, 4)))
            together = [b"".join(each) for each in zip(*map(doors.requests, some), strict=True)]
            ends = len(min(together))
            cuts = sorted(random.sample(range(1, ends), random.choice((0, 0, 0, 1, 3))))
            assert connections.same(together, len(some), [at - ends for at in cuts])


def test_a_head_that_is_known_is_not_parsed_again(tmp_path: Path) -> None:
    """That of every insert which arrives whole, and is not refused because of its head."""
    server = ServerProcess(tmp_path, *OPTIONS)
    server.module = ["tests.support.doors", "known"]
    with server:
        doors = Doors(server)
        apply_rules(server, RULES)
        known = set()
        for name in CASES:
            with doors.connections() as connections:
                if connections.same(doors.requests(name)) and connections.same(doors.requests(name)):
                    known.add(name)
    assert sorted(CASES.keys() - known) == [
        "a page that is refused", "a query", "a stranger", "a stranger without a right", "a whole URL",
        "an older client", "another charset",
        "another method", "another scheme", "another spelling", "behind a proxy", "chunks", "compressed", "no type",
        "the last of its connection", "too large", "trailers", "waits for permission",
    ]  # fmt: skip


def test_which_requests_take_the_door_without_asgi(tmp_path: Path) -> None:
    """All that arrive whole, except for those of which something else has to be decided first."""
    marking = ServerProcess(tmp_path, *OPTIONS)
    marking.module = ["tests.support.doors", "marked"]
    with marking as server:
        doors = Doors(server)
        taken = set()
        for name in CASES:
            (request,) = doors.requests(name)
            with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as sock:
                sock.sendall(request + END)
                if b"\r\n\r\ndirect" in b"".join(iter(lambda: sock.recv(1 << 16), b"")):
                    taken.add(name)
    others = {
        "waits for permission", "behind a proxy", "another method", "a query", "another spelling",
        "a whole URL", "an older client",
    }  # fmt: skip
    assert taken == CASES.keys() - others


def test_which_streams_take_the_door_without_asgi(tmp_path: Path) -> None:
    """All of which nothing has to be decided first, and that are not refused."""
    marking = ServerProcess(tmp_path, *OPTIONS)
    marking.module = ["tests.support.doors", "marked"]
    with marking as server:
        doors = Doors(server)
        apply_rules(server, RULES)
        with server.client("ada") as client:  # so that the server knows the user
            assert client.get("/users/me").status_code == 200
        taken = set()
        for name in STREAMS.keys() - {"after an insert", "before an insert"}:
            with doors.connections() as connections:
                ((sock, stream),) = connections.both
                sock.sendall(doors.streams(name)[0])
                if start(stream).startswith(b"HTTP/1.1 200 "):
                    taken.add(name)
    assert taken == {
        "all", "a name", "a prefix", "whole records", "whole records for a stranger", "heartbeats", "a user", "a page",
        "a page of another origin", "no id", "an id of another log", "resumed by the header", "resumed by the URL",
        "resumed, with new names",
    }  # fmt: skip


def test_a_known_head_is_judged_by_the_rights_of_the_moment(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, *OPTIONS) as server:
        doors = Doors(server)
        body = '{"event":"user/a","data":1}'

        def insert(connections: Connections, token: str) -> bytes:
            request = f"{HEAD}Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            (found,) = connections.send([request])
            return found[0][0].split(b"\r\n")[0]

        with doors.connections() as connections:
            (token,) = doors.tokens
            assert [insert(connections, token) for _ in range(3)] == [b"HTTP/1.1 201 Created"] * 3
            apply_rules(server, RULES.replace('insert = "user"', 'insert = "nobody"'))
            assert insert(connections, token) == b"HTTP/1.1 403 Forbidden"
            apply_rules(server, RULES)
            assert insert(connections, token) == b"HTTP/1.1 201 Created"
            with server.client() as client:
                client.post("/logout", headers={"Authorization": f"Bearer {token}"}).raise_for_status()
            assert insert(connections, token) == b"HTTP/1.1 401 Unauthorized"
            assert insert(connections, server.token("ada")) == b"HTTP/1.1 201 Created"
