"""A small client for the commands: HTTP by the standard library, and the stream, which it resumes by itself."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

_TIMEOUT_S = 30.0  # for each read; a stream's is longer if its heartbeats are further apart than 15 s
_LATE_S = 5.0  # how late a heartbeat may be
_HEARTBEAT_MAX_S = 1_000_000
_PART_BYTES = 65_536
_RETRY_S = 2.0  # until the server's first `retry:`


class ClientError(Exception):
    """The server refused a request, or is unreachable. The message is for the person at the terminal.

    ``status`` is the status of the response, or 0 if there was none, and ``index`` the number of the item at fault in a
    batch."""

    def __init__(self, message: str, status: int = 0, index: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.index = index


class Message(NamedTuple):
    """One event of the stream."""

    id: str
    event: str
    data: str


class Client:
    """A client of one server. ``url`` is what ``parse_url`` returned, and ``token`` has passed ``check_token``."""

    def __init__(
        self, url: str, token: str = "", tls: ssl.SSLContext | None = None, timeout_s: float = _TIMEOUT_S,
        without_token: Callable[[ClientError], None] | None = None,
    ) -> None:  # fmt: skip
        """``without_token``: if it is given, requests are repeated without the token when the server refuses it, and
        this function is called with the refusal."""
        self._url = url
        self._token = token
        self._without_token = without_token
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))

    def post(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
        """Sends JSON, and returns the response's JSON, without the line feed at its end.

        Raises ClientError."""
        with self._open("POST", path, body, headers) as response, _cut_off():
            return response.read().decode().removesuffix("\n")

    def get(self, path: str) -> tuple[str, str]:
        """Returns the response, and the id as of which it is (``Last-Event-ID``), or "". Raises ClientError."""
        with self._open("GET", path, None) as response, _cut_off():
            return response.read().decode(), response.headers.get("Last-Event-ID", "")

    def lines(self, path: str) -> Iterator[str]:
        """The lines of an NDJSON response. Raises ClientError."""
        with self._open("GET", path, None, {"Accept": "application/x-ndjson"}) as response:
            yield from _lines(response)

    def listen(
        self, events: tuple[str, ...], last_id: str, report: Callable[[str], None], *, records: bool = False
    ) -> Iterator[Message]:
        """The messages of the stream, for ever: it reconnects and resumes after the last id by itself. ``report`` is
        called with a sentence for each interruption. ``records``: whether each message has a whole record.

        Raises ClientError for a refusal that another attempt would not change."""
        retry_s = _RETRY_S
        query = query_of(events, frames="record" if records else None)
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
                                # http.client has no public way from a response to its socket.
                                response.fp.raw._sock.settimeout(silent_s)  # type: ignore[attr-defined] # see above
                            yield message
                reason = "the stream ended"
            except Ended:  # a server that stops, or is full, ends the stream without its last chunk
                reason = "the stream ended"
            except Unreachable as error:
                reason = str(error)
            report(f"{reason}; connecting again in {retry_s:.1f} s")
            time.sleep(retry_s)

    def _open(self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None) -> HTTPResponse:
        """Raises Unreachable if the same request may succeed later, and another ClientError if not."""
        all_headers = dict(headers or {})
        if body is not None:
            all_headers.setdefault("Content-Type", "application/json")
        if self._token:
            all_headers["Authorization"] = f"Bearer {self._token}"
        try:
            request = urllib.request.Request(self._url + path, body, all_headers, method=method)  # noqa: S310 (the user's)
            response: HTTPResponse = self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                kind = Unsure if error.code in (500, 502, 503, 504) else ClientError
                refusal = kind(*_problem(error))
            if error.code != 401 or not self._token or self._without_token is None:
                raise refusal from None
            self._without_token(refusal)
            self._token = ""
            return self._open(method, path, body, headers)
        except urllib.error.URLError as error:
            raise Unreachable(f"cannot reach {self._url}: {error.reason}; {_advice(error.reason)}") from None
        except (OSError, HTTPException) as error:
            raise Unsure(f"{self._url} did not respond: {str(error) or type(error).__name__}") from None
        return response


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: urllib would turn an insert into a GET without a body, and send the token to whatever
    server the redirect names."""

    def redirect_request(self, *_: object) -> None:
        return None


class Unreachable(ClientError):
    """The server is not there, or cannot respond now. The same request may succeed later."""


class Unsure(Unreachable):
    """The request was sent, and the server may have done what it asks. An insert can be sent again with its uuid."""


class Ended(Unsure):
    """The connection was closed before the end of the response."""


@contextmanager
def _cut_off() -> Iterator[None]:
    """Turns the errors of reading a response into Unsure."""
    try:
        yield
    except IncompleteRead:
        raise Ended("the response was cut off: the server closed the connection before its end") from None
    except (OSError, HTTPException) as error:
        raise Unsure(f"the response was cut off: {str(error) or type(error).__name__}") from None


def _lines(response: HTTPResponse) -> Iterator[str]:
    """The lines, as they arrive. (The response's own iterator treats one that was cut off between two chunks as
    complete.)"""
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
    """Parses ``text/event-stream`` (WHATWG HTML, section 9.2.6). Each item is "event", "id" or "retry", and a message;
    the data of a "retry" is the number of milliseconds."""
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
    """After how many seconds without a byte a stream counts as dead: two heartbeats and some delay. ``ready`` is the
    data of its ``$ready``, which says how often heartbeats come; if it does not, the result is 0."""
    with suppress(ValueError, KeyError, TypeError):
        heartbeat_s = json.loads(ready)["heartbeat"]
        if type(heartbeat_s) in (int, float) and 0 < heartbeat_s <= _HEARTBEAT_MAX_S:
            return float(2 * heartbeat_s + _LATE_S)
    return 0.0


def check_token(token: str) -> str:
    """Returns the token. Raises ValueError if it cannot stand in a header. The message does not show it, as
    http.client's would."""
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ValueError(
            "the token has a blank, a line break or another character that no header may have; copy it again, or get "
            "another one: broker login"
        )
    return token


def check_id(last_id: str) -> None:
    """Raises ValueError for an id that cannot stand in a header."""
    if not re.fullmatch(r"[\x20-\x7e]*", last_id):
        raise ValueError("an id has no line break and no letter beyond ASCII; copy it again from the stream")


def query_of(events: Iterable[str], **parameters: object) -> str:
    """The query for a filter and further parameters, without those that are None."""
    pairs = [("event", event) for event in events] + [each for each in parameters.items() if each[1] is not None]
    return "?" + urlencode(pairs) if pairs else ""


def _advice(reason: object) -> str:
    """What a person can do about a server that is unreachable."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "give --ca FILE, with the certificate of the authority that issued the server's"
    if isinstance(reason, ssl.SSLError):
        return "the server may not speak TLS: try http:// in place of https://"
    if isinstance(reason, socket.gaierror):
        return "there is no machine of that name: check --url"
    return "is the server running there?"


def _problem(error: urllib.error.HTTPError) -> tuple[str, int, int | None]:
    """The message for a response that is an error, its status, and the index of the item at fault in a batch."""
    if error.code in (301, 302, 303, 307, 308):
        to = urlsplit(error.headers.get("Location", ""))
        where = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else "another address"
        return f"the server sends on to {where} ({error.code}); if that is right, give it as --url", error.code, None
    try:
        problem = json.load(error)
        detail, index, latest = str(problem["detail"]), problem.get("index"), problem.get("latest")
        if "latest" in problem:
            detail += f"; the newest version is {latest['id'] if latest else 'none'} (broker snapshot NAME)"
        return f"{detail} ({error.code})", error.code, index if isinstance(index, int) else None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, HTTPException):
        return f"the server responded with {error.code} {error.reason}", error.code, None
