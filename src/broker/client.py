"""A small client for the command line: HTTP by the standard library, and the stream with resume."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any
from urllib.parse import quote, urlencode

_TIMEOUT_S = 30.0  # a heartbeat comes every 15 s: two missed ones and the stream is dead
_PART_BYTES = 65_536
_RETRY_S = 2.0  # until the server says


class ClientError(Exception):
    """The server refused, or cannot be reached. The text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event of the stream."""

    id: str
    event: str
    data: str


class Client:
    def __init__(self, url: str, token: str = "", certificate: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._tls = ssl.create_default_context(cafile=certificate) if url.startswith("https:") else None

    def post(self, path: str, body: Any | bytes | None = None) -> str:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self._open("POST", path, data if body is not None else None) as response, _cut_off():
            return response.read().decode()

    def lines(self, path: str) -> Iterator[str]:
        with self._open("GET", path, None, {"Accept": "application/x-ndjson"}) as response:
            yield from _lines(response)

    def listen(self, events: tuple[str, ...], last_id: str, tell: Callable[[str], None]) -> Iterator[Message]:
        """The stream, for ever: resumes after the last id by itself. ``tell`` hears of each interruption.

        Raises ClientError for a refusal that asking again would not change."""
        retry_s = _RETRY_S
        query = "?" + urlencode([("event", event) for event in events]) if events else ""
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
            try:
                with self._open("GET", f"/events{query}", None, headers) as response:
                    for kind, message in parse(_lines(response), last_id):
                        if kind == "retry":
                            retry_s = int(message.data) / 1000
                            continue
                        last_id = message.id
                        if kind == "event":
                            yield message
                reason = "the stream ended"
            except Away as error:
                reason = str(error)
            tell(f"{reason}; connecting again in {retry_s:.1f} s")
            time.sleep(retry_s)

    def _open(self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None) -> HTTPResponse:
        """Raises Away if it may work later, ClientError if not."""
        all_headers = dict(headers or {})
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        if self._token:
            all_headers["Authorization"] = f"Bearer {self._token}"
        try:
            request = urllib.request.Request(self._url + path, body, all_headers, method=method)  # noqa: S310 (the user's)
            response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                kind = Unsure if error.code in (500, 502, 503, 504) else ClientError
                raise kind(_sentence(error)) from None
        except urllib.error.URLError as error:
            raise Away(f"cannot reach {self._url}: {error.reason}; is the server running there?") from None
        except (ValueError, InvalidURL) as error:
            raise ClientError(f"--url {self._url}: {error}; it begins with http:// or https://") from None
        except (OSError, HTTPException) as error:
            raise Unsure(f"{self._url} did not answer: {str(error) or type(error).__name__}") from None
        return response


class Away(ClientError):
    """The server is not there, or cannot answer now: the same may work later."""


class Unsure(Away):
    """It was sent, and may have been done: an insert can be sent again, with the same uuid."""


@contextmanager
def _cut_off() -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        raise Unsure(f"the answer was cut off: {str(error) or type(error).__name__}") from None


def _lines(response: HTTPResponse) -> Iterator[str]:
    """Lines as they come. (Iterating over a response takes one that is cut off between two chunks for complete.)"""
    rest = b""
    while True:
        with _cut_off():
            part = response.read1(_PART_BYTES)
        if not part:
            break
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)
    if rest:
        yield rest.decode()


def parse(lines: Iterator[str], last_id: str = "") -> Iterator[tuple[str, Message]]:
    """``text/event-stream`` (WHATWG HTML, section 9.2.6) as ("event" | "id" | "retry", Message)."""
    event, data = "", list[str]()
    for line in lines:
        line = line.rstrip("\r\n")
        if not line:
            if data:
                yield "event", Message(last_id, event or "message", "\n".join(data))
            else:
                yield "id", Message(last_id, "", "")
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and value.isdecimal():
            yield "retry", Message(last_id, "", value)


def collection(event: str, limit: int | None, newest_first: bool) -> str:
    query = {"limit": limit} if limit else {}
    return f"/collections/{quote(event)}?{urlencode({**query, 'order': 'desc' if newest_first else 'asc'})}"


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return f"{json.load(error)['detail']} ({error.code})"
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return f"the server answered {error.code} {error.reason}"
