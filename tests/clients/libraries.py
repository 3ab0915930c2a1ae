"""The libraries: what each is called, how its program is run, and what its user needs to know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".cache"  # what `make soak` installs and builds


@dataclass(frozen=True, kw_only=True)
class Library:
    name: str  # in its registry
    version: str
    language: str  # and folder
    program: str  # its file, without the ending
    reconnects: str  # after what, if not after everything
    saved_id: str  # how an id is given to the first request
    notes: str = ""
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
                return ["java", "-Xshare:auto", "-cp", f"{folder / 'classes'}:{folder / 'libraries'}/*", self.program]
            case other:
                return [str(CACHE / other / self.program)]

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(CACHE / "python" / self.program)} if self.needs else {}


BY_ITSELF = "by itself"
OWN_LOOP = "your own loop: it reads one response"

JAVASCRIPT = [
    Library(
        name="EventSource of Chromium",
        version="Debian's",
        language="python",
        program="chromium",
        quick=True,
        reconnects=BY_ITSELF,
        saved_id="`?last_event_id=`",
        notes="Name each event that you listen to.",
    ),
    Library(
        name="eventsource",
        version="4.1.1",
        language="js",
        program="eventsource",
        quick=True,
        reconnects=BY_ITSELF,
        saved_id="`?last_event_id=`",
    ),
    Library(
        name="event-source-polyfill",
        version="1.0.31",
        language="js",
        program="event-source-polyfill",
        quick=True,
        reconnects=BY_ITSELF,
        saved_id="`?lastEventId=`",
        notes="Give a saved id in the address, not in `headers`: it would send that header with each reconnect.",
    ),
    Library(
        name="@microsoft/fetch-event-source",
        version="2.0.1",
        language="js",
        program="fetch-event-source",
        quick=True,
        reconnects=BY_ITSELF,
        saved_id='`headers: {"Last-Event-ID": id}`',
        notes="In Node it needs `window` and `document`, and `openWhenHidden: true`.",
    ),
]

PYTHON = [
    Library(
        name="httpx-sse",
        version="0.4.3",
        language="python",
        program="httpx_sse",
        quick=True,
        reconnects=OWN_LOOP,
        saved_id='`headers={"Last-Event-ID": id}`',
    ),
    Library(
        name="requests-sse",
        version="0.5.3",
        language="python",
        program="requests_sse",
        quick=True,
        reconnects=BY_ITSELF,
        saved_id="`latest_event_id=id`",
    ),
]

LIBRARIES = [*JAVASCRIPT, *PYTHON]
