"""The libraries: what each is called, how its program is run, and what its user needs to know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".cache"  # what `make soak` installs and builds

ITSELF = "by itself"
OWN_LOOP = "by your own loop"  # it reads one response
NO_OPTION = "none"  # and the scenario leaves long lines out of its stream
QUERY = "`?last_event_id=` in the URL"
LISTENERS = (
    "The library has no listener for all events: add one for each name, or use [record frames](http.md#record-frames)."
)


@dataclass(frozen=True, kw_only=True)
class Library:
    name: str  # in its registry
    version: str = ""  # of those that `make test` installs in ranges, and of the browser: the one that is here
    language: str  # and folder
    program: str  # its file, without the ending
    reconnects: str = ITSELF
    saved_id: str  # how the id to resume from is given to it
    notes: str = ""  # what else its user needs to know: sentences
    large: str = ""  # the option for lines over 64 KiB, where one is needed
    quick: bool = False  # in `make test`, too
    needs: tuple[str, ...] = ()  # requirements for pip, if `make test` does not install it

    @property
    def command(self) -> list[str]:
        match self.language:
            case "js":
                return ["node", str(HERE / "js" / f"{self.program}.js")]
            case "python":
                return [sys.executable, "-m", f"tests.clients.python.{self.program}"]
            case "java":
                folder = CACHE / "java"
                return ["java", "-cp", f"{folder / 'classes'}:{folder / 'libraries'}/*", self.program]
            case "rust":
                return [str(CACHE / "rust" / "release" / self.program)]
            case other:
                return [str(CACHE / other / self.program)]

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(CACHE / "python" / self.program)} if self.needs else {}


JAVASCRIPT = [
    Library(
        name="EventSource (Chromium)", language="python", program="chromium", quick=True,
        saved_id=QUERY,
        notes=LISTENERS,
    ),
    Library(
        name="eventsource", version="4.1.1", language="js", program="eventsource", quick=True,
        saved_id=QUERY,
        notes=LISTENERS,
    ),
    Library(
        name="eventsource", version="2.0.2", language="js", program="eventsource-2",
        saved_id='`headers: {"Last-Event-ID": id}`',
        notes=LISTENERS,
    ),
    Library(
        name="undici EventSource", version="7.30.0", language="js", program="undici",
        saved_id=QUERY,
        notes=f"{LISTENERS} It is part of Node.js, which offers "
        "it as `EventSource` with the option `--experimental-eventsource`. A program that has nothing else to do "
        "exits while the library waits before it reconnects.",
    ),
    Library(
        name="eventsource-client", version="1.2.0", language="js", program="eventsource-client",
        saved_id="`initialLastEventId`",
    ),
    Library(
        name="launchdarkly-eventsource", version="2.2.0", language="js", program="launchdarkly-eventsource",
        saved_id=QUERY,
        notes="Do not give a saved id in `headers`: the library would send this old id with each reconnect. The "
        "library has no listener for all events: add one for each name, or use [record frames](http.md#record-frames).",
    ),
    Library(
        name="reconnecting-eventsource", version="1.6.5", language="js", program="reconnecting-eventsource",
        saved_id="`lastEventId`",
        notes="The library wraps another EventSource. When this EventSource gives up, the library opens a new one with "
        "`?lastEventId=`.",
    ),
    Library(
        name="event-source-polyfill", version="1.0.31", language="js", program="event-source-polyfill", quick=True,
        saved_id="`?lastEventId=` in the URL, which the library keeps up to date",
        notes="Do not give a saved id in `headers`: the library would send this old id with each reconnect, and Broker "
        "uses the header rather than the newer id in the URL.",
    ),
    Library(
        name="@microsoft/fetch-event-source", version="2.0.1", language="js", program="fetch-event-source", quick=True,
        saved_id='`headers: {"Last-Event-ID": id}`',
        notes="On a stream with a filter, call `JSON.parse` only for messages that have `data`. Outside a page, "
        "the library needs the globals `window` and `document`, and the option `openWhenHidden: true`. If the page "
        "may connect through a proxy for which the table in [proxies.md](proxies.md#a-restart) says *clean*, "
        "throw an error in `onclose`; otherwise the library does not reconnect after a restart of Broker.",
    ),
]  # fmt: skip

PYTHON = [
    Library(
        name="httpx-sse",  language="python", program="httpx_sse", quick=True, reconnects=OWN_LOOP,
        saved_id='`headers={"Last-Event-ID": id}`',
        notes="Install httpx, too. On a stream with a filter, ignore events without `data`. Set a read timeout of "
        "twice the heartbeat interval.",
    ),
    Library(
        name="sseclient-py", version="1.9.0", language="python", program="sseclient_py", reconnects=OWN_LOOP,
        saved_id='`headers={"Last-Event-ID": id}` of the request',
        needs=("sseclient-py==1.9.0",),
    ),
    Library(
        name="requests-sse",  language="python", program="requests_sse", quick=True,
        saved_id="`latest_event_id=id`",
        notes="The library raises an error after six failed attempts in a row: increase `max_connect_retry`.",
    ),
    Library(
        name="launchdarkly-eventsource", version="1.7.4", language="python", program="launchdarkly_eventsource",
        saved_id="`last_event_id=id`",
        notes="The library reconnects only if you pass `error_strategy=ErrorStrategy.always_continue()`.",
        needs=("launchdarkly-eventsource==1.7.4",),
    ),
    Library(
        name="aiohttp-sse-client", version="0.2.1", language="python", program="aiohttp_sse_client",
        saved_id='`headers={"Last-Event-ID": id}`',
        large="`read_bufsize=`",
        notes="The library raises an error when the server stops, is full or cannot be reached: catch "
        "`aiohttp.ClientError` in a loop of your own, and connect again with the last id.",
        needs=("aiohttp-sse-client==0.2.1", "aiohttp==3.14.5"),
    ),
    Library(
        name="aiohttp-sse-client2", version="0.3.0", language="python", program="aiohttp_sse_client2",
        saved_id='`headers={"Last-Event-ID": id}`',
        large="`read_bufsize=`",
        notes="The library raises an error when the server stops, is full or cannot be reached: catch "
        "`aiohttp.ClientError` in a loop of your own, and connect again with the last id.",
        needs=("aiohttp-sse-client2==0.3.0", "aiohttp==3.14.5"),
    ),
    Library(
        name="aiosseclient", version="0.1.8", language="python", program="aiosseclient", reconnects=OWN_LOOP,
        saved_id="`last_id=id`",
        large=NO_OPTION,
        notes="The library ends a line after 512 KiB, and at U+2028, U+2029 and U+0085. The standard allows neither.",
        needs=("aiosseclient==0.1.8", "aiohttp==3.14.5"),
    ),
    Library(
        name="sseclient", version="0.0.27", language="python", program="sseclient",
        saved_id="`last_id=id`",
        large=NO_OPTION,
        notes="The library was last changed in 2020. It does not decode the chunked encoding of HTTP/1.1, and raises "
        "an error when the server cannot be reached. It also ends a line at U+2028, which the standard does not "
        "allow. sseclient-py is a different library.",
        needs=("sseclient==0.0.27", "requests==2.34.2"),
    ),
]  # fmt: skip

GO = [
    Library(
        name="r3labs/sse", version="2.10.0", language="go", program="r3labs",
        saved_id="`client.LastEventID.Store([]byte(id))`",
        large="`sse.ClientMaxBufferSize(n)`",
        notes="When a stream ends after a heartbeat, or because the server is full, the library delivers one event "
        "without data.",
    ),
    Library(
        name="tmaxmax/go-sse", version="0.12.0", language="go", program="tmaxmax",
        saved_id=QUERY,
        large="`connection.Buffer(nil, n)`",
        notes="Do not give a saved id as a header of the request: if no event arrives on the first connection, the "
        "library removes the header before it reconnects.",
    ),
    Library(
        name="launchdarkly/eventsource", version="1.11.0", language="go", program="launchdarkly",
        saved_id="`StreamOptionLastEventID(id)`",
    ),
    Library(
        name="donovanhide/eventsource", version="0.0.0 of 30 August 2021", language="go", program="donovanhide",
        saved_id="the second argument of `Subscribe`",
        notes="Read the channel `Errors`, too; otherwise the library stops at the first error.",
    ),
]  # fmt: skip

RUST = [
    Library(
        name="reqwest-eventsource", version="0.6.0", language="rust", program="reqwest_eventsource",
        saved_id='`request.header("Last-Event-ID", id)`',
        notes="The library reconnects after an error, unless your program closes the source. The example in the "
        "library's README closes it, so leave that line out.",
    ),
    Library(
        name="eventsource-client", version="0.16.2", language="rust", program="eventsource_client",
        saved_id="`last_event_id(id)`",
        notes="Continue to read after an error; the library's example stops there.",
    ),
]  # fmt: skip

JAVA = [
    Library(
        name="okhttp-sse", version="4.12.0", language="java", program="OkHttpSse", reconnects=OWN_LOOP,
        saved_id='`request.header("Last-Event-ID", id)`',
        notes="Set a `readTimeout` of twice the heartbeat interval.",
    ),
    Library(
        name="okhttp-eventsource", version="4.1.1", language="java", program="OkHttpEventSource",
        saved_id="`lastEventId(id)`",
        notes="The library reconnects only if you pass `errorStrategy(ErrorStrategy.alwaysContinue())`.",
    ),
    Library(
        name="HttpClient", version="of the JDK", language="java", program="JdkHttpClient", reconnects=OWN_LOOP,
        saved_id='`request.header("Last-Event-ID", id)`',
        notes="The client has no parser for events: read lines with `BodyHandlers.ofLines()`, and parse them yourself.",
    ),
]  # fmt: skip

LIBRARIES = [*JAVASCRIPT, *PYTHON, *GO, *RUST, *JAVA]
