"""What happens to the libraries, all at once against one server, and what is reported of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from urllib.parse import quote

import httpx

from tests.clients.gate import Gate
from tests.clients.libraries import NO_OPTION, Library
from tests.clients.listener import Delivered, Listener
from tests.support.servers import ServerProcess, StreamReader, open_stream, streaming, wait_for

LARGE = '"' + "0123456789" * 90_000 + '"'
SEPARATORS = '{"t":"a\u2028b\u2029c\u0085d\x7fe"}'  # raw, where other line ends must be escaped
ODD = {
    "odd/plain": '{"first_name":"Rusty"}',
    "odd/\U0001f600 é": '"\U0001f469\u200d\U0001f467 é"',
    "odd/a b": '"  a blank in the name, and some in front  "',
    "odd/x: y": '": a colon\\tand a tab"',
    "odd/crlf": '"one\\r\\ntwo\\n\\ndata: three"',
    "odd/separators": SEPARATORS,
    "odd/large": LARGE,
}
LIVE, MISSED, ELSEWHERE = "live", "missed", "elsewhere"
FILTER = f"?event=odd/*&event={LIVE}&event={MISSED}"
WITHOUT_LARGE = "?" + "&".join(f"event={quote(name)}" for name in (*ODD, LIVE, MISSED) if name != "odd/large")
START_BOUND_S = 60.0  # a browser's first start, on a busy machine
LARGE_BOUND_S = 5.0  # a library that cannot read a long line never gets it
NAMES = [*ODD, LIVE, MISSED, ELSEWHERE, "$ready", "$skipped", "$reset"]
HEARTBEATS = 3  # that are waited for
IDS_ALONE = "filtered, when the position has moved"
FULL, SAVED_ID = "a full server", "a saved id"
YES = "yes"
RESUMES = "resumes"


@dataclass
class Report:
    """Of one library. Texts are ``yes``, ``resumes``, or what was wrong."""

    names: str = "no"  # and ids, and data
    large: str = "no"  # lines of 900 KB
    without_option: str = ""  # what it does with those, if it needs an option for them
    separators: str = "no"
    after: dict[str, str] = field(default_factory=dict)  # a full server, SIGTERM, SIGKILL, a saved id
    reset: str = "no"
    order: str = YES  # each record once and in order
    empty: dict[str, int] = field(default_factory=dict)  # events without data: when, and how many
    complaints: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Scenario:
    """Mutable state: all below ``say``, changed by the thread that runs it."""

    libraries: list[Library]
    folder: Path
    bound_s: float = 20.0  # a library that has not come back by then has stopped
    heartbeat_s: float = 1.0
    say: Callable[[str], None] = print

    server: ServerProcess = field(init=False)
    ada: httpx.Client = field(init=False)
    listeners: list[Listener] = field(init=False)
    reports: dict[Listener, Report] = field(init=False)
    _ids: dict[str, str] = field(default_factory=dict)  # of the newest record of each event
    _missed: list[str] = field(default_factory=list)  # data of records that went in while the listeners were away
    _last_live: str = ""
    _number: int = 0  # of the last record: its data

    def run(self) -> dict[str, Report]:
        with self._server("log") as server, server.client("ada") as ada, self._listeners(server) as listeners:
            self.server, self.ada, self.listeners = server, ada, listeners
            self.reports = {each: Report() for each in listeners}
            for name, data in ODD.items():
                self._insert_text(name, data)
            with streaming(server) as observer:
                self._first_connection(observer)
                self._full_server()
            self._saved_id_and_filter()
            # With an id that was given and, by now, a newer one of its own.
            self._restart(SIGTERM)
            self._restart(SIGKILL)
            for listener in listeners:
                self.reports[listener].order = _order(listener.delivered)
            self._large_without_option()
            self._new_log()
            for listener in listeners:
                self.reports[listener].complaints = listener.complaints[-30:]
            return {listener.library.program: report for listener, report in self.reports.items()}

    # The steps

    def _first_connection(self, observer: StreamReader) -> None:
        """The snapshot, and a stream that is idle for some heartbeats."""
        for listener in self.listeners:
            listener.gate.open()
            self._start(listener)
        self._all(lambda each: each.has("$ready"), "$ready", START_BOUND_S)
        for listener, report in self.reports.items():
            got = {each.event: each for each in listener.delivered}
            ordinary = [name for name in ODD if name not in ("odd/large", "odd/separators")]
            wrong = [name for name in ordinary if name not in got or not self._right(got[name])]
            report.names = f"wrong: {', '.join(wrong)}" if wrong else YES
            if report.names == YES and not _ready(got.get("$ready")):
                report.names = "wrong: $ready"
            if "odd/large" in got and self._right(got["odd/large"]):
                report.large = f"with {listener.library.large}" if listener.library.large else YES
            report.separators = YES if "odd/separators" in got and self._right(got["odd/separators"]) else "no"
            report.empty["at the start"] = _empty(listener.delivered)
        with self._counted("at heartbeats"):
            heard = observer.comments
            wait_for(lambda: observer.comments >= heard + HEARTBEATS, what="heartbeats")
            self._live()

    def _full_server(self) -> None:
        """All seats are taken when they come back; then there is room."""
        self._revive()
        with self._returning(FULL):
            self._away()
            for listener in self.listeners:
                listener.gate.cut()
            self._miss()
            with self._seats_taken():
                before = {each: len(each.gate.passages) for each in self.listeners}
                self._admit()
                self._all(lambda each: self._refused(each, before[each]), "the refusal of a full server")

    def _refused(self, listener: Listener, before: int) -> bool:
        """Whether the full server has answered it, behind so many connections of before."""
        if not listener.alive and len(listener.gate.passages) == before:
            # It did not even survive the loss of its connection: its next process finds the full server.
            self._start(listener)
        return any(each.answered for each in listener.gate.passages[before:])

    def _restart(self, number: Signals) -> None:
        """While the streams are idle, so that what they end behind is a heartbeat."""
        self._revive()
        with self._returning(number.name):
            with streaming(self.server) as observer:
                wait_for(lambda: observer.comments, what="a heartbeat")
            self._away()
            self.server.stop(number)
            self.server.start()
            self._miss()
            self._admit()

    def _saved_id_and_filter(self) -> None:
        """New processes that are given the last id of the old ones, on a stream with a filter."""
        self._revive()
        for listener in self.listeners:
            listener.stop()
        with streaming(self.server, f"/events{FILTER}") as observer:
            with self._returning(SAVED_ID):
                self._miss()
                for listener in self.listeners:
                    listener.start(FILTER, saved_id=listener.last_id)
            with self._counted("filtered, at heartbeats"):
                heard = observer.comments
                wait_for(lambda: observer.comments >= heard + HEARTBEATS, what="heartbeats")
                self._live()
            with self._counted(IDS_ALONE):
                moved = self._insert(ELSEWHERE)
                wait_for(lambda: observer.last_id == moved, what="an id without an event")
                self._live()

    def _new_log(self) -> None:
        self._revive()
        begun = {listener: len(listener.delivered) for listener in self.listeners}
        with self._server("another log") as server, server.client("ada") as ada:
            self.ada = ada
            data = self._next()
            self._insert_text(LIVE, data)
            self._away()
            self.server.stop()
            for listener in self.listeners:
                listener.gate.leads_to(server.port)
            self._admit()
            self._all(lambda each: each.has("$ready", since=begun[each]), "$ready of a new log")
            for listener, report in self.reports.items():
                events = [each for each in listener.delivered[begun[listener] :] if not each.empty]
                if [each.event for each in events] == ["$reset", LIVE, "$ready"] and events[1].data == data:
                    report.reset = YES
            self.say(f"$reset: {', '.join(sorted({report.reset for report in self.reports.values()}))}")

    def _large_without_option(self) -> None:
        """What those that need an option for long lines do if they are not given it."""
        for listener, report in self.reports.items():
            if listener.library.large:
                listener.stop()
                report.without_option = self._large_alone(listener)
                listener.stop()

    def _large_alone(self, listener: Listener) -> str:
        passages, begun = len(listener.gate.passages), len(listener.delivered)
        listener.start("?event=odd/large", large=False)
        with suppress(AssertionError):
            wait_for(lambda: listener.has("$ready", since=begun) or not listener.alive, LARGE_BOUND_S)
        if listener.has("odd/large", LARGE, begun):
            return YES
        if not listener.alive:
            return "ends"
        return "hangs" if len(listener.gate.passages) == passages + 1 else "connects again and again"

    # What the steps are made of

    @contextmanager
    def _returning(self, after: str) -> Iterator[None]:
        """Records that were missed within it come once, before a live one, or else the report says what came."""
        begun = {listener: len(listener.delivered) for listener in self.listeners}
        self._missed.clear()
        lives = {listener: listener.lives for listener in self.listeners}
        yield
        live = self._live()
        # A library that reconnects only now receives the live record before $ready. Without this wait, that $ready
        # could arrive in the next step and be taken for its own.
        self._all(lambda each: not each.has(LIVE, live) or each.has("$ready", since=begun[each]), "$ready of a return")
        for listener, report in self.reports.items():
            got = [each.data for each in listener.delivered[begun[listener] :] if not each.empty and not each.own]
            if got == [*self._missed, live]:
                report.after[after] = RESUMES
            elif live not in got:
                report.after[after] = "stops" if listener.alive else "ends"
            else:
                report.after[after] = f"wrong: {_short(got)} instead of {_short([*self._missed, live])}"
            if after == FULL and listener.lives > lives[listener] and report.after[after] == RESUMES:
                report.after[after] += " if begun anew"
        self._count(begun, f"after {after}")
        self.say(f"after {after}: {', '.join(sorted({report.after[after] for report in self.reports.values()}))}")

    @contextmanager
    def _counted(self, when: str) -> Iterator[None]:
        begun = {listener: len(listener.delivered) for listener in self.listeners}
        yield
        self._count(begun, when)

    def _count(self, begun: dict[Listener, int], when: str) -> None:
        for listener, report in self.reports.items():
            report.empty[when] = report.empty.get(when, 0) + _empty(listener.delivered[begun[listener] :])

    def _revive(self) -> None:
        """Those that have stopped begin anew, as their users would have it: with the last id that they had."""
        begun = dict.fromkeys(self.listeners, 0)
        for listener in self.listeners:
            if not listener.alive or not listener.has(LIVE, self._last_live):
                listener.stop()
                begun[listener] = len(listener.delivered)
                self._start(listener)
        self._all(lambda each: each.has("$ready", since=begun[each]), "$ready of those that began anew")

    def _start(self, listener: Listener) -> None:
        """From the id on that its last process had."""
        query = WITHOUT_LARGE if listener.library.large == NO_OPTION else ""
        listener.start(query, saved_id=listener.last_id)

    def _away(self) -> None:
        for listener in self.listeners:
            listener.gate.close()

    def _admit(self) -> None:
        for listener in self.listeners:
            listener.gate.open()

    def _miss(self) -> None:
        self._missed.append(self._next())
        self._insert_text(MISSED, self._missed[-1])

    def _live(self) -> str:
        """Inserts a record that all are waited for to have, and returns its data."""
        data = self._last_live = self._next()
        self._insert_text(LIVE, data)
        self._all(lambda each: each.has(LIVE, data), "a live record")
        return data

    def _all(self, condition: Callable[[Listener], bool], what: str, bound_s: float = 0) -> None:
        """Waits until it is true of all listeners that have not ended, for a time."""
        with suppress(AssertionError):
            wait_for(
                lambda: all(condition(each) or not each.alive for each in self.listeners), bound_s or self.bound_s, what
            )
            return
        self.say(f"{what}: not of {', '.join(each.library.name for each in self.listeners if not condition(each))}")

    @contextmanager
    def _seats_taken(self) -> Iterator[None]:
        seats: list[StreamReader] = []

        def another() -> bool:
            seat = open_stream(self.server)
            wait_for(lambda: seat.ended or any(each.event == "$ready" for each in seat.frames), what="a seat")
            seats.append(seat)
            return not seat.ended

        for _ in self.listeners:
            wait_for(another, what="a seat of one that has left")
        try:
            yield
        finally:
            for seat in seats:
                seat.close()

    @contextmanager
    def _server(self, name: str) -> Iterator[ServerProcess]:
        with ServerProcess(
            self.folder / name, heartbeat_s=self.heartbeat_s, retry_ms=100, subscribers_max=len(self.libraries) + 1
        ) as server:
            yield server

    @contextmanager
    def _listeners(self, server: ServerProcess) -> Iterator[list[Listener]]:
        listeners = [Listener(library, Gate(server.port), NAMES) for library in self.libraries]
        try:
            yield listeners
        finally:
            for listener in listeners:
                listener.stop()
                listener.gate.close()
            self.say("stopped")

    def _next(self) -> str:
        self._number += 1
        return str(self._number)

    def _insert_text(self, event: str, data: str) -> str:
        """``data`` is JSON, sent as it is; returns the id."""
        body = f'{{"event":{json.dumps(event)},"data":{data}}}'.encode()
        answer = self.ada.post("/insert", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, answer.text
        self._ids[event] = str(answer.json()["id"])
        return self._ids[event]

    def _insert(self, event: str) -> str:
        """Inserts the next number; returns the record's id."""
        return self._insert_text(event, self._next())

    def _right(self, each: Delivered) -> bool:
        return each.data == ODD[each.event] and each.id == self._ids[each.event]


def _empty(delivered: Iterable[Delivered]) -> int:
    return sum(each.empty for each in delivered)


def _ready(each: Delivered | None) -> bool:
    return each is not None and json.loads(each.data)["id"] == each.id


def _short(texts: Iterable[str]) -> str:
    return ", ".join(text if len(text) < 20 else f"{text[:20]}…" for text in texts)


def _order(delivered: Iterable[Delivered]) -> str:
    positions = [each.position for each in delivered if not each.empty and not each.own and each.id]
    wrong = [f"{b} behind {a}" for a, b in pairwise(positions) if b <= a]
    return ", ".join(wrong) or YES
