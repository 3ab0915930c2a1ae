"""One library at work: the process of its program, and what the library delivered to it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from tests.clients.gate import Gate
from tests.clients.libraries import Library

ROOT = Path(__file__).parent.parent.parent


class Delivered(NamedTuple):
    event: str
    data: str
    id: str

    @property
    def empty(self) -> bool:
        """The standard says that what has no data is no event, and is not delivered."""
        return self.data == ""

    @property
    def own(self) -> bool:
        """One of Broker's own events."""
        return self.event.startswith("$")

    @property
    def position(self) -> int:
        return int(self.id.rpartition("-")[2])


@dataclass(eq=False)
class Listener:
    library: Library
    gate: Gate
    events: Iterable[str]  # names, for libraries without a listener for all of them
    delivered: list[Delivered] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    lives: int = 0  # processes of it so far
    _process: subprocess.Popen[bytes] | None = None
    _readers: list[threading.Thread] = field(default_factory=list)

    def start(self, query: str = "", saved_id: str = "", *, large: bool = True) -> None:
        environment = {**os.environ, **self.library.environment, "EVENTS": json.dumps(list(self.events))}
        url = f"http://127.0.0.1:{self.gate.port}/events{query}"
        self._process = subprocess.Popen(
            [*self.library.command, url, *([saved_id] if saved_id else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment | ({"LARGE": "1"} if large else {}),
            start_new_session=True,  # some start processes of their own
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_complaints, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.lives += 1

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def last_id(self) -> str:
        """What its user would have saved."""
        return next((each.id for each in reversed(self.delivered) if each.id), "")

    def has(self, event: str, data: str = "", since: int = 0) -> bool:
        return any(each.event == event and data in ("", each.data) for each in self.delivered[since:])

    def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 15)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)
                self._process.wait()
            for reader in self._readers:
                reader.join(5)

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.delivered.append(Delivered(**json.loads(line)))

    def _read_complaints(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.complaints.append(line.decode(errors="replace").rstrip()[:300])
