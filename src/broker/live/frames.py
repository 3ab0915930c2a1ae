"""A published record as the bytes that streams receive, in the forms that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from uuid import UUID

import msgspec

from broker import sse
from broker.records import REMOVAL, Record, encode_published


class Form(Enum):
    """What a stream receives of each record."""

    NAMED = 0  # an event of the record's name, with the data alone
    RECORD = 1  # a message that has the record, without its user, for readers without a token
    RECORD_WITH_USER = 2


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One published record. The data is in memory once, as a part of ``named``."""

    position: int
    event: str
    named: bytes
    data_start: int  # where the data begins in ``named``
    uuid: UUID
    user: str
    timestamp: str | None
    due_us: int
    until: str | None
    published_us: int
    removal: bool
    reserved: bool  # whether it is one of Broker's own records, which no stream shows
    inserted_us: int = 0
    ends: UUID | None = None

    @property
    def event_id(self) -> bytes:
        """Returns the SSE id. It is in memory only once, as a part of ``named``."""
        return self.named[len(b"id: ") : self.named.index(b"\n")]

    @property
    def epoch(self) -> str:
        return self.event_id.decode().rpartition("-")[0]

    @property
    def data(self) -> bytes:
        return self.named[self.data_start : -2]

    @property
    def is_false(self) -> bool:
        """Whether the data is ``false``."""
        return self.named.startswith(b"false\n\n", self.data_start)

    def record(self) -> Record:
        """Returns the record, without its number, which no reader sees."""
        return Record(
            self.uuid, self.event, self.data, self.user, self.timestamp, self.due_us, False,
            self.inserted_us, False, self.position, self.published_us, 0, self.epoch, self.until, None, self.ends,
        )  # fmt: skip

    def form(self, form: Form) -> bytes:
        """Returns the bytes of the record. Only the named form is kept in memory."""
        if form is Form.NAMED:
            return self.named
        json = encode_published(self.record(), user=form is Form.RECORD_WITH_USER)
        return sse.message(self.event_id, json)

    def without_id(self, form: Form) -> bytes:
        """Returns the bytes of the record without the ``id:`` line, so that the client keeps its last id."""
        body = self.form(form)
        return body[body.index(b"\n") + 1 :]


def make_frame(record: Record, id_prefix: bytes) -> Frame:
    """``record`` is published, and ``id_prefix`` is what the SSE ids of the current epoch begin with."""
    assert record.position is not None
    assert record.published_us is not None
    named = sse.frame(b"%b%d" % (id_prefix, record.position), record.event, record.data)
    return Frame(
        record.position, record.event, named, len(named) - len(record.data) - 2, record.uuid, record.user,
        record.timestamp, record.due_us, record.until, record.published_us, record.data == REMOVAL,
        record.event[0] == "$", record.inserted_us, record.ends,
    )  # fmt: skip


Authors = Callable[[str], bool]  # whether readers without a token see who has inserted the records of an event


def form_of(frame: Frame, form: Form, authors: Authors | None) -> Form:
    """Returns the form in which a stream that asks for this form receives the frame. ``authors`` is None if no rule
    shows readers without a token who has inserted a record."""
    if form is Form.RECORD and authors is not None and authors(frame.event):
        return Form.RECORD_WITH_USER
    return form


def encode_all(frames: list[Frame], form: Form, authors: Authors | None = None) -> list[bytes]:
    """Returns the bytes of the frames for one stream."""
    return Encoder(frames, authors).encode(frames, form)


class Encoder:
    """Encodes the frames of one turn for several groups of streams. Each record is encoded once in each form.

    Mutable state: the bytes of the frames that were encoded in a form that is not kept in memory."""

    def __init__(self, turn: Iterable[Frame], authors: Authors | None = None) -> None:
        self._authors = authors
        # Nearly all turns have no reserved frame. Then the frames of a group need not be examined one by one, which
        # would cost more than everything else here if there are many groups.
        self._reserved = any(frame.reserved for frame in turn)
        self._encoded: dict[tuple[int, Form], bytes] = {}

    def encode(self, frames: Iterable[Frame], form: Form) -> list[bytes]:
        """Returns the bytes of the frames, which are some of the turn's, in order. Adjacent frames that no stream shows
        are joined into one ``$passed``, so that a client whose stream is not filtered can still count the positions."""
        if form is Form.NAMED and not self._reserved:
            return [frame.named for frame in frames]
        encoded: list[bytes] = []
        passed = 0
        last: Frame | None = None
        for frame in frames:
            if frame.reserved:
                passed, last = passed + 1, frame
                continue
            if last is not None:
                encoded.append(sse.passed(passed, last.event_id))
                passed, last = 0, None
            encoded.append(frame.named if form is Form.NAMED else self._in_form(frame, form))
        if last is not None:
            encoded.append(sse.passed(passed, last.event_id))
        return encoded

    def _in_form(self, frame: Frame, form: Form) -> bytes:
        form = form_of(frame, form, self._authors)
        key = (frame.position, form)
        body = self._encoded.get(key)
        if body is None:
            body = self._encoded[key] = frame.form(form)
        return body
