"""What many tests ask of an answer, and requests that httpx would not send."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx

from tests.support.servers import BOUND_S, ServerProcess

JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of an error whose form is that of RFC 9457."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["type", "title", "status", "detail"]
    assert body["type"].startswith("urn:broker:problem:")
    assert body["status"] == status
    assert "Traceback" not in answer.text
    detail: str = body["detail"]
    assert detail
    return detail


def post(client: httpx.Client, path: str, body: bytes) -> httpx.Response:
    """``body`` as it is, said to be JSON."""
    return client.post(path, content=body, headers=JSON)


def insert(client: httpx.Client, event: str, data: bytes = b"1", more: bytes = b"") -> httpx.Response:
    """Inserts the very bytes of ``data``; ``more`` are further fields."""
    return post(client, "/insert", b'{"event":"%b","data":%b%b}' % (event.encode(), data, more))


def request_head(client: httpx.Client, line: str, *lines: str) -> bytes:
    """A request's head with the client's token, to be sent over a plain socket."""
    token = client.headers["Authorization"]
    return "\r\n".join([line, "Host: localhost", f"Authorization: {token}", *lines, "", ""]).encode()


def exchange(server: ServerProcess, sent: bytes) -> tuple[str, str]:
    """Sends bytes and returns the answer's head and body, as far as its length says or the connection lasts."""
    with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as sock, sock.makefile("rb") as answer:
        sock.sendall(sent)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = answer.readline()
            assert line, f"the connection ended within the head: {head!r}"
            head += line
        text = head.decode()
        length = next((int(h[15:]) for h in text.lower().split("\r\n") if h.startswith("content-length:")), -1)
        return text, answer.read(length).decode()


def follow(client: httpx.Client, address: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The records of a page and of all that its links lead to, as an array or, with ``headers`` that ask for it, as
    lines."""
    found: list[dict[str, Any]] = []
    while address:
        answer = client.get(address, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.json() if not headers else [json.loads(line) for line in answer.text.splitlines()]
        address = str(answer.url.join(answer.links["next"]["url"])) if "link" in answer.headers else ""
    return found
