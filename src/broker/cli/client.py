"""A small client for the command line: HTTP by the standard library, and the stream with resume."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

_TIMEOUT_S = 30.0  # at the least; a heartbeat comes every 15 s unless the server says otherwise
_LATE_S = 5.0  # how late a heartbeat may be
_HEARTBEAT_MAX_S = 1_000_000
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
    """``url`` is one that ``parse_url`` returned, and ``token`` has passed ``check_token``."""

    def __init__(
        self, url: str, token: str = "", tls: ssl.SSLContext | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._url = url
        self._token = token
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))

    def post(self, path: str, body: Any | bytes | None = None) -> str:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self._open("POST", path, data if body is not None else None) as response, _cut_off():
            return response.read().decode().removesuffix("\n")

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
                            if message.event == "$ready":
                                silent_s = max(self._timeout_s, silence_s(message.data))
                                # http.client has no public way from an answer to its socket.
                                response.fp.raw._sock.settimeout(silent_s)  # type: ignore[attr-defined] # see above
                            yield message
                reason = "the stream ended"
            except Ended:  # a server that stops, or is full, leaves out the last chunk: come back
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
            response: HTTPResponse = self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                kind = Unsure if error.code in (500, 502, 503, 504) else ClientError
                raise kind(_sentence(error)) from None
        except urllib.error.URLError as error:
            raise Away(f"cannot reach {self._url}: {error.reason}; {_advice(error.reason)}") from None
        except (OSError, HTTPException) as error:
            raise Unsure(f"{self._url} did not answer: {str(error) or type(error).__name__}") from None
        return response


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Sent on to another address, urllib makes a GET without a body of an insert, and gives the token to whoever is
    there."""

    def redirect_request(self, *_: object) -> None:
        return None


class Away(ClientError):
    """The server is not there, or cannot answer now: the same may work later."""


class Unsure(Away):
    """It was sent, and may have been done: an insert can be sent again, with the same uuid."""


class Ended(Unsure):
    """The connection was closed before the end of the answer."""


@contextmanager
def _cut_off() -> Iterator[None]:
    try:
        yield
    except IncompleteRead:
        raise Ended("the answer was cut off: the server closed the connection before its end") from None
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


def silence_s(ready: str) -> float:
    """How long a stream may say nothing until it is dead, by the data of its ``$ready``: two heartbeats, and a bit.

    0 if the server does not say how often they come."""
    try:
        heartbeat_s = json.loads(ready)["heartbeat"]
    except (ValueError, KeyError, TypeError):
        return 0.0
    if isinstance(heartbeat_s, bool) or not isinstance(heartbeat_s, int | float):
        return 0.0
    return 2 * heartbeat_s + _LATE_S if 0 < heartbeat_s <= _HEARTBEAT_MAX_S else 0.0


def check_token(token: str) -> None:
    """Raises ValueError with a sentence that does not show it: http.client would, for what no header may have."""
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ValueError(
            "the token has a blank, a line break or another character that no header may have; copy it again, or get "
            "another one: broker login"
        )


def check_id(last_id: str) -> None:
    """Raises ValueError."""
    if not re.fullmatch(r"[\x20-\x7e]*", last_id):
        raise ValueError("an id has no line break and no letter beyond ASCII; copy it again from the stream")


def collection(event: str, limit: int | None, newest_first: bool) -> str:
    query = {"limit": limit} if limit else {}
    return f"/collections/{quote(event)}?{urlencode({**query, 'order': 'desc' if newest_first else 'asc'})}"


def _advice(reason: object) -> str:
    """What to do where a server cannot be reached."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "give --ca FILE, with the certificate of the authority that issued the server's"
    if isinstance(reason, ssl.SSLError):
        return "it may speak no TLS: try http:// in place of https://"
    if isinstance(reason, socket.gaierror):
        return "no machine is known by that name: look at --url"
    return "is the server running there?"


def _sentence(error: urllib.error.HTTPError) -> str:
    if error.code in (301, 302, 303, 307, 308):
        to = urlsplit(error.headers.get("Location", ""))
        where = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else "another address"
        return f"the server sends on to {where} ({error.code}); if that is right, give it as --url"
    try:
        return f"{json.load(error)['detail']} ({error.code})"
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return f"the server answered {error.code} {error.reason}"
