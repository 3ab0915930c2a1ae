"""Records: NewRecord goes into the store, Record comes out. Also their JSON, ids, timestamps and uuids. No I/O."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Literal, NamedTuple, final
from uuid import UUID

import msgspec

from broker.errors import BadRequest

TIMESTAMP_MIN = -62135596800  # 0001-01-01T00:00:00Z, seconds
TIMESTAMP_MAX = 253402300799  # 9999-12-31T23:59:59Z, seconds; a time of today in milliseconds is far larger
TIMESTAMP_TEXT_MAX = 64  # characters; a time in whole microseconds needs at most 19

_NUMBER = re.compile(r"-?\d")
# The data that removes an event: it has no state afterwards.
REMOVAL = b"null"
FALSE = b"false"

JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")  # RFC 8259, section 6
# RFC 3339, section 5.6, strictly: no blank in place of the T, no missing seconds, no zone without a colon. The groups
# are the six numbers, the digits of the fraction, and the sign, the hours and the minutes of the zone.
_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))\Z", re.ASCII
)
# What programs write that leave out the zone, among them the value of a page's <input type="datetime-local">.
_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?\Z", re.ASCII)
_BLANK_BEFORE_ZONE = re.compile(r" (?=\d\d:\d\d\Z)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_MAX = 40  # characters of a refused text that a message shows
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)
_EVENT_ID = re.compile(r"([0-9a-f]{8})-(0|[1-9][0-9]{0,17})\Z")
# The precision is enough for every number of TIMESTAMP_TEXT_MAX characters between the two limits. So nothing is
# rounded before the last step.
_EXACT = Context(prec=2 * TIMESTAMP_TEXT_MAX)


class EventId(NamedTuple):
    """The SSE ``id``, from which a subscriber resumes. It is opaque to clients."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Returns None if ``text`` cannot be an id of any Broker."""
        match = _EVENT_ID.match(text)
        return cls(match[1], int(match[2])) if match else None


# The version that must be the latest, so that an insert is accepted: its id or its uuid, or "none" for an event without
# state. None: the insert has no condition.
IfLatest = EventId | UUID | Literal["none"] | None


@final
class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """What a publisher asks to append. ``data`` is compact JSON. ``timestamp`` is the first result of ``read_time``, or
    None if the record is due at once."""

    uuid: UUID
    event: str
    data: bytes
    user: str
    timestamp: str | None = None
    due_us: int | None = None  # ``timestamp`` in microseconds since 1970, rounded up; None: at once
    log_only: bool = False
    uuid_given: bool = False  # whether the publisher chose the uuid; only then the insert may be a repeated one
    until: str | None = None  # when the version ends, as a number of seconds; None: it does not end by itself
    until_us: int | None = None  # ``until`` in microseconds since 1970, rounded up
    if_latest: IfLatest = None
    late_refused: bool = False  # refuse the record if its time has passed, instead of publishing it late


@final
class Cancel(msgspec.Struct, frozen=True, gc=False):
    """An item of a batch that cancels a pending record."""

    uuid: UUID
    user: str


class Record(msgspec.Struct, frozen=True, gc=False):
    """One version of an event, as it is in the log. ``user`` is "" for nobody: a stranger, or the operator. Times are
    whole microseconds since 1970."""

    uuid: UUID
    event: str
    data: bytes
    user: str
    timestamp: str | None
    due_us: int
    log_only: bool
    inserted_us: int
    cancelled: bool = False
    position: int | None = None
    published_us: int | None = None
    number: int = 0
    epoch: str = ""  # the epoch of the log at the time when the record was read or written
    until: str | None = None
    until_us: int | None = None
    ends: UUID | None = None  # the version that this record ends, because its ``until`` has come
    reason: str | None = None  # why the server has cancelled it; None: it has not

    @property
    def id(self) -> str | None:
        """The record's SSE id. It is None as long as the record is not published."""
        return None if self.position is None else f"{self.epoch}-{self.position}"


class RecordView(msgspec.Struct):
    """The JSON of a record (docs/http.md)."""

    uuid: UUID
    event: str
    timestamp: msgspec.Raw
    until: msgspec.Raw | msgspec.UnsetType
    ends: UUID | msgspec.UnsetType
    published: bool
    cancelled: bool
    reason: str | msgspec.UnsetType
    data: msgspec.Raw | msgspec.UnsetType
    id: str | None
    user: str | msgspec.UnsetType | None
    inserted_at: msgspec.Raw
    published_at: msgspec.Raw | None


_encode = msgspec.json.Encoder().encode


def encode_record(record: Record, *, data: bool = True, user: bool = True) -> bytes:
    """Returns the record as JSON. ``data`` and ``user``: whether these fields are shown."""
    inserted_at = seconds(record.inserted_us)
    published_at: msgspec.Raw | None = inserted_at
    if record.published_us != record.inserted_us:
        published_at = None if record.published_us is None else seconds(record.published_us)
    if record.timestamp is not None:
        timestamp = msgspec.Raw(record.timestamp.encode())
    else:
        timestamp = inserted_at if record.due_us == record.inserted_us else seconds(record.due_us)
    view = RecordView(
        record.uuid, record.event, timestamp,
        msgspec.UNSET if record.until is None else msgspec.Raw(record.until.encode()),
        msgspec.UNSET if record.ends is None else record.ends,
        record.log_only or record.cancelled or record.position is not None, record.cancelled,
        msgspec.UNSET if record.reason is None else record.reason,
        msgspec.Raw(record.data) if data else msgspec.UNSET, record.id,
        (record.user or None) if user else msgspec.UNSET,
        inserted_at, published_at,
    )  # fmt: skip
    return _encode(view)


class PublishedView(msgspec.Struct):
    """The JSON of a record in a stream (docs/http.md)."""

    id: str
    uuid: UUID
    event: str
    user: str | msgspec.UnsetType | None
    timestamp: msgspec.Raw
    until: msgspec.Raw | msgspec.UnsetType
    published_at: msgspec.Raw
    data: msgspec.Raw


def encode_published(record: Record, *, user: bool) -> bytes:
    """Returns the JSON of a published record, as streams with record frames show it. ``user``: whether it is shown."""
    assert record.id is not None
    assert record.published_us is not None
    timestamp = seconds_text(record.due_us) if record.timestamp is None else record.timestamp
    view = PublishedView(
        record.id, record.uuid, record.event, (record.user or None) if user else msgspec.UNSET,
        msgspec.Raw(timestamp.encode()),
        msgspec.UNSET if record.until is None else msgspec.Raw(record.until.encode()),
        seconds(record.published_us), msgspec.Raw(record.data),
    )  # fmt: skip
    return _encode(view)


def encode_receipt(record: Record) -> bytes:
    """Returns the short response to a request with ``Prefer: return=minimal``."""
    return _encode({"uuid": record.uuid, "id": record.id})


def seconds_text(microseconds: int) -> str:
    """Returns microseconds since 1970 as a JSON number of seconds, without rounding: ``1700000000.5``."""
    sign, magnitude = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
    whole, fraction = divmod(magnitude, 1_000_000)
    return f"{sign}{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def read_time(raw: str, field: str = "timestamp") -> tuple[str, int]:
    """Reads a time that is the value of a JSON field: a number of seconds since 1970, or a string of RFC 3339. ``raw``
    is that value as valid JSON, so a string has its quotation marks.

    Returns the time as a JSON number of seconds, which is what the log holds, and in microseconds since 1970, rounded
    up. A number is returned as it was sent. All strings that mean the same instant are returned as the same number.

    Raises BadRequest for everything else, for a string without a zone, and for a time that is not between the years 1
    and 9999. The message begins with ``field``."""
    first = raw[:1]
    if first == '"':
        return _read_rfc_3339(json.loads(raw), field)
    if first not in "-0123456789":
        raise _no_time(raw, field)
    return raw, parse_timestamp(raw, field)


def read_time_parameter(text: str, field: str) -> tuple[str, int]:
    """Does the same as ``read_time`` for the value of a query parameter, where a string has no quotation marks.

    In a query, a ``+`` that was not percent-encoded means a blank. Many clients forget to encode it, so a blank before
    the zone counts as the ``+`` that it was."""
    if JSON_NUMBER.match(text):
        return text, parse_timestamp(text, field)
    with_plus = _BLANK_BEFORE_ZONE.sub("+", text)
    return _read_rfc_3339(with_plus if _RFC_3339.match(with_plus) else text, field)


def parse_timestamp(text: str, field: str = "timestamp") -> int:
    """Returns the microseconds since 1970 for a JSON number of seconds. They are rounded up, so that a record is never
    published early.

    Raises BadRequest for anything but a number between the years 1 and 9999."""
    if not _NUMBER.match(text):
        raise BadRequest(f"{field}: expected a number of seconds since 1970, got {text[:20]}")
    if len(text) > TIMESTAMP_TEXT_MAX:
        raise BadRequest(f"{field}: a number of {len(text)} characters; at most {TIMESTAMP_TEXT_MAX}")
    try:
        seconds = Decimal(text)
    except InvalidOperation:  # the exponent is too large for Decimal
        raise BadRequest(f"{field}: {text} has a huge exponent; write the seconds without one") from None
    if seconds > TIMESTAMP_MAX:
        raise BadRequest(f"{field}: {text} is after the year 9999; it is in seconds{_other_unit(seconds)}")
    if seconds < TIMESTAMP_MIN:
        raise BadRequest(f"{field}: {text} is before the year 1")
    return int(_EXACT.multiply(seconds, Decimal(1_000_000)).to_integral_value(ROUND_CEILING))


def _read_rfc_3339(text: str, field: str) -> tuple[str, int]:
    """Returns what ``read_time`` returns. ``text`` is the string without its quotation marks."""
    match = _RFC_3339.match(text)
    shown = text[:_SHOWN_MAX]
    if match is None:
        if _WITHOUT_ZONE.match(text):
            raise BadRequest(
                f"{field}: {shown} has no time zone; write it behind the seconds, as in 2030-01-01T12:00:00Z (UTC) or "
                "2030-01-01T12:00:00+01:00"
            )
        raise _no_time(f'"{text}"', field)
    *numbers, fraction, sign, zone_hours, zone_minutes = match.groups(default="")
    year, month, day, hour, minute, second = map(int, numbers)
    if second == 60:
        raise BadRequest(
            f"{field}: {shown} is a leap second, which has no number of seconds since 1970; write :59 instead of :60, "
            "or the minute that follows"
        )
    if year == 0:
        raise BadRequest(f"{field}: {shown} is before the year 1")
    zone = timedelta(hours=int(sign + zone_hours), minutes=int(sign + zone_minutes)) if sign else timedelta()
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone(zone))
    except ValueError as error:
        raise BadRequest(f"{field}: there is no such time as {shown} ({error})") from None
    # The zone may move the time out of the years of a datetime, but a difference of two of them has no such limit.
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    microseconds = seconds * 1_000_000 + int(fraction[:6].ljust(6, "0")) + (fraction[6:].strip("0") != "")
    if seconds < TIMESTAMP_MIN:
        raise BadRequest(f"{field}: {shown} is before the year 1")
    if microseconds > TIMESTAMP_MAX * 1_000_000:
        raise BadRequest(f"{field}: {shown} is after the year 9999")
    return seconds_text(microseconds), microseconds


def _no_time(raw: str, field: str) -> BadRequest:
    return BadRequest(
        f"{field}: expected a number of seconds since 1970, or a string such as "
        f'"2030-01-01T12:00:00Z", got {raw[:_SHOWN_MAX]}'
    )


def _other_unit(seconds: Decimal) -> str:
    """Returns the end of the message about a number that is too large. If the number would be a sensible time in
    another unit, it names that unit."""
    for unit, divisor in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if seconds <= TIMESTAMP_MAX * divisor:
            return f", and that looks like {unit}: divide by {divisor}"
    return " since 1970"


def parse_uuid(text: str, field: str = "uuid") -> UUID:
    """Returns the uuid. Raises BadRequest for anything but the form of 36 characters (RFC 9562, section 4). The message
    begins with ``field``."""
    if not _UUID.match(text):
        raise BadRequest(f"{field}: expected 36 characters such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return UUID(text)


class Uuids:
    """Makes uuids. Each thread needs an object of its own, because it is not safe for several threads.

    Mutable state: the millisecond of the last uuid, and how many uuids were made in that millisecond; and a stock of
    random numbers, because a system call for each uuid would cost more than everything else here."""

    def __init__(self) -> None:
        self._milliseconds = 0
        self._count = 0
        self._random: list[int] = []

    def make(self, milliseconds: int) -> UUID:
        """Returns a uuid of version 7 (RFC 9562, section 5.7), with the counter of section 6.2, method 1.

        Later uuids are larger, so that the store's unique index grows at its end, which is faster. A clock that is set
        back, and the 4,097th uuid of one millisecond, break that order. This costs a little time and nothing else."""
        self._count = self._count + 1 if milliseconds == self._milliseconds else 0
        self._milliseconds = milliseconds
        if not self._random:
            self._random = list(memoryview(secrets.token_bytes(4_096)).cast("Q"))
        random = self._random.pop() & (1 << 62) - 1
        return UUID(int=milliseconds << 80 | 7 << 76 | (self._count & 0xFFF) << 64 | 2 << 62 | random)


make_uuid = Uuids().make  # for the event loop


@lru_cache(maxsize=16)  # all records of a transaction have the same times
def seconds(microseconds: int) -> msgspec.Raw:
    """Returns ``seconds_text`` as JSON."""
    return msgspec.Raw(seconds_text(microseconds).encode())
