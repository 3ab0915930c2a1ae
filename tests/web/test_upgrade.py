"""An offer to go on in another protocol is declined, and the request answered as if there had been none (RFC 9110,
section 7.8): the body is intact, and so is the connection. The JDK's client and ``curl --http2`` make such offers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import httpx
import pytest

from tests.clients.gate import Gate
from tests.support.servers import BOUND_S, ServerProcess, StreamReader

DATA = "é \U0001f600"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

OFFERS = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "websocket": (
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    ),
    "odd": "connection: keep-alive,uPgRaDe\r\nUPGRADE: foo/2, h2c\r\nUpgrade:  bar  \r\n",
}
FORMS = ["whole", "chunked", "chunked with an extension and a trailer"]


class Answer(NamedTuple):
    status: int
    body: bytes


def post(offer: str, form: str, token: str, event: str, version: str = "1.1", more: str = "") -> bytes:
    """An insert with an offer."""
    body = json.dumps({"event": event, "data": DATA}, ensure_ascii=False).encode()
    length = f"Content-Length: {len(body)}" if form == "whole" else "Transfer-Encoding: chunked"
    head = (
        f"POST /insert HTTP/{version}\r\nHost: localhost\r\n{OFFERS[offer]}Content-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\n{more}{length}\r\n\r\n"
    )
    if form != "whole":
        extension, trailer = (b";a=b", b"X-Trailer: yes\r\n") if "extension" in form else (b"", b"")
        pieces = [body[:1], body[1:7], body[7:]]
        body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
        body += b"0\r\n" + trailer + b"\r\n"
    return head.encode() + body


def get(offer: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{OFFERS[offer]}\r\n".encode()


@contextmanager
def connection(server: ServerProcess) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=BOUND_S)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def answer(stream: IO[bytes]) -> Answer:
    """The next one of the connection."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return Answer(status, stream.read(length))


def answers(sock: socket.socket, count: int) -> list[Answer]:
    with sock.makefile("rb") as stream:
        return [answer(stream) for _ in range(count)]


def check(server: ServerProcess, got: list[Answer]) -> None:
    """That of an insert with DATA, and that of NEXT."""
    inserted, healthy = got
    assert inserted.status == 201, inserted
    assert json.loads(inserted.body)["data"] == DATA
    assert healthy.status == 200, healthy


def all_read(client: httpx.Client) -> None:
    """Returns when the server has read what was sent before: its loop takes turns."""
    assert client.get("/healthz").status_code == 200


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> str:
    return server.token("ada")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offer", OFFERS)
def test_head_and_body_in_one_segment_with_another_request_behind(
    server: ServerProcess, token: str, offer: str, form: str
) -> None:
    with connection(server) as sock:
        for _ in range(3):  # and kept alive
            sock.sendall(post(offer, form, token, "upgrade/one") + NEXT)
            check(server, answers(sock, 2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offer", OFFERS)
def test_split_at_every_place(server: ServerProcess, ada: httpx.Client, token: str, offer: str, form: str) -> None:
    sent = post(offer, form, token, "upgrade/split") + NEXT
    blank = sent.index(b"\r\n\r\n")
    # The token is long, and one place in it is like another.
    places = [place for place in range(1, len(sent)) if place < 250 or place > blank - 80]
    with ExitStack() as stack:
        socks = [stack.enter_context(connection(server)) for _ in places]
        for sock, place in zip(socks, places, strict=True):
            sock.sendall(sent[:place])
        all_read(ada)
        for sock, place in zip(socks, places, strict=True):
            sock.sendall(sent[place:])
        for sock in socks:
            check(server, answers(sock, 2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offer", OFFERS)
def test_byte_by_byte(server: ServerProcess, ada: httpx.Client, token: str, offer: str, form: str) -> None:
    sent = post(offer, form, token, "upgrade/bytes") + NEXT
    with connection(server) as sock:
        for byte in sent:
            sock.sendall(bytes([byte]))
            all_read(ada)
        check(server, answers(sock, 2))


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_that_is_waited_with(server: ServerProcess, token: str, offer: str) -> None:
    sent = post(offer, "whole", token, "upgrade/expect", more="Expect: 100-continue\r\n")
    head, _, body = sent.partition(b"\r\n\r\n")
    with connection(server) as sock, sock.makefile("rb") as stream:
        sock.sendall(head + b"\r\n\r\n")
        assert answer(stream).status == 100
        sock.sendall(body + NEXT)
        check(server, [answer(stream), answer(stream)])


@pytest.mark.parametrize("offer", OFFERS)
def test_many_offers_in_a_row_are_answered_in_order(server: ServerProcess, token: str, offer: str) -> None:
    events = [f"upgrade/row/{number}" for number in range(10)]
    sent = [post(offer, FORMS[number % 3], token, event) for number, event in enumerate(events)]
    with connection(server) as sock:
        sock.sendall(b"".join(each + get(offer, "/healthz") for each in sent))
        got = answers(sock, 20)
    assert [each.status for each in got] == [201, 200] * 10
    assert [json.loads(each.body)["event"] for each in got[::2]] == events


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_over_http_1_0_is_ignored(server: ServerProcess, token: str, offer: str) -> None:
    with connection(server) as sock:
        sock.sendall(post(offer, "whole", token, "upgrade/old", version="1.0"))
        [inserted] = answers(sock, 1)
        assert (inserted.status, json.loads(inserted.body)["data"]) == (201, DATA)


@pytest.mark.parametrize("more", [b"", NEXT])
def test_without_a_body_there_is_an_answer_and_a_connection(server: ServerProcess, more: bytes) -> None:
    for offer in OFFERS:
        with connection(server) as sock:
            sock.sendall(get(offer, "/healthz") + more)
            assert {each.status for each in answers(sock, 2 if more else 1)} == {200}


@pytest.mark.parametrize("offer", OFFERS)
def test_a_refusal_is_answered_and_the_connection_goes_on(server: ServerProcess, offer: str) -> None:
    with connection(server) as sock:
        sock.sendall(post(offer, "whole", "nonsense", "upgrade/refused") + NEXT)
        assert [each.status for each in answers(sock, 2)] == [401, 200]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_stream_opens_and_is_live(server: ServerProcess, ada: httpx.Client, offer: str) -> None:
    event = f"upgrade/stream/{offer}"
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(get(offer, f"/events?event={event}"))
    reader = StreamReader(sock)
    reader.start()
    try:
        reader.wait("$ready")
        assert ada.post("/insert", json={"event": event, "data": 1}).status_code == 201
        reader.wait(event)
    finally:
        reader.close()


# Real clients


@pytest.mark.skipif(shutil.which("java") is None, reason="THE JDK'S CLIENT WAS NOT TESTED: it needs java")
def test_the_jdk_signs_up_logs_in_and_inserts(server: ServerProcess) -> None:
    gate = Gate(server.port)
    gate.open()
    try:
        program = Path(__file__).parent.parent / "clients" / "java" / "Post.java"
        result = subprocess.run(
            ["java", str(program), f"http://127.0.0.1:{gate.port}"], capture_output=True, text=True, timeout=120
        )
        connections = len(gate.passages)
    finally:
        gate.close()
    calls = [line.split(" ", 2) for line in result.stdout.splitlines()]
    expected = [["/users", "201"], ["/login", "200"], ["/insert", "201"], ["/insert", "201"]] * 12
    assert [call[:2] for call in calls] == expected, (calls[-1], result.stderr)
    for _, _, body in calls[2::4]:
        assert json.loads(body)["data"] == "é" * 20_000
    for _, _, body in calls[3::4]:
        assert [record["data"] for record in json.loads(body)] == ["é" * 20_000] * 2
    assert connections == 6, "one for each client: kept alive"


@pytest.mark.skipif(shutil.which("curl") is None, reason="CURL WAS NOT TESTED: install curl (Debian: apt install curl)")
@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("form", ["whole", "chunked", "as it comes"])
def test_curl_with_http2_signs_up_logs_in_and_inserts(server: ServerProcess, form: str, expect: str) -> None:
    def call(path: str, body: object, *headers: str) -> list[httpx.Response]:
        """The same twice, on one connection."""
        options = [part for header in headers for part in ("--header", header)]
        match form:
            case "chunked":
                options += ["--header", "Transfer-Encoding: chunked", "--data-binary", text := json.dumps(body)]
            case "whole":
                options += ["--data-binary", text := json.dumps(body)]
            case _:
                options += ["--request", "POST", "--upload-file", "-"]
                text = json.dumps(body)
        one = [
            "--http2", "--silent", "--show-error", "--max-time", "20", "--header", expect,
            "--header", "Content-Type: application/json", "--write-out", "%{http_code} %{num_connects}\n",
            *options, server.url + path,
        ]  # fmt: skip
        times = 1 if form == "as it comes" else 2
        made = subprocess.run(
            ["curl", *one, *(["--next", *one] if times == 2 else [])], capture_output=True, text=True, input=text
        )
        assert made.returncode == 0, made.stderr
        lines = made.stdout.splitlines()
        assert [line.split()[1] for line in lines[1::2]] == ["1", "0"][:times], "kept alive"
        return [
            httpx.Response(int(code.split()[0]), text=body) for body, code in zip(lines[::2], lines[1::2], strict=True)
        ]

    names = {"username": f"curl-{form.replace(' ', '-')}-{len(expect)}", "password": "correct horse"}
    assert [each.status_code for each in call("/users", names)] == [201, 409][: 1 if form == "as it comes" else 2]
    token = f"Authorization: Bearer {call('/login', names)[-1].json()['jwt']}"
    record = {"event": "upgrade/curl", "data": DATA}
    for answered in call("/insert", record, token):
        assert (answered.status_code, answered.json()["data"]) == (201, DATA)
    for answered in call("/insert", [record, record], token):
        assert (answered.status_code, [each["data"] for each in answered.json()]) == (201, [DATA, DATA])
