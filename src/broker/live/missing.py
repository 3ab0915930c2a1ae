"""What a new stream lacks, if that is little and in memory. Most streams lack little, and need no task for it."""

from __future__ import annotations

from broker.live.access import Access
from broker.live.frames import Authors, Form, encode_all
from broker.live.relay import Relay
from broker.live.subscriber import Subscriber
from broker.names import EVERYTHING
from broker.records import EventId
from broker.settings import KIB, Settings
from broker.store.base import RECORD_BYTES

SLICE = 64 * KIB  # how much is written to one subscriber before other subscribers have their turn
# Frames in memory that are encoded at a time in another form than the named one. A small record is several times as
# large in such a form, so a slice of small frames would become a payload of a multiple of its size. As many events, or
# missed records, are little. They take some tenths of a millisecond.
RECORDS_PER_SLICE = SLICE // RECORD_BYTES
_SHARED_MAX = 16  # replays that are kept until the next record, each of about a slice


class Missing:
    """Mutable state: what all streams lack that resume from the same position, as of one position of the relay."""

    def __init__(self, relay: Relay, access: Access, settings: Settings) -> None:
        self._relay = relay
        self._access = access
        self._settings = settings
        self._shared: dict[tuple[int, Form], bytes] = {}
        self._shared_upto = 0

    def of(self, subscriber: Subscriber, last_id: str | None) -> bytes | None:
        """Returns everything that a new stream lacks, up to the relay's position. Returns None if that is much, or
        cannot be found without waiting."""
        found = self._latest(subscriber) if last_id is None else self._missed(subscriber, last_id)
        return None if found is None or len(found) > SLICE else found

    def _latest(self, subscriber: Subscriber) -> bytes | None:
        """Returns the whole snapshot."""
        relay, subscription = self._relay, subscriber.subscription
        filter, upto = subscription.filter, relay.position
        # A larger snapshot is sent in pages, which streams share.
        if len(relay.snapshot.order) > RECORDS_PER_SLICE and (filter.everything or filter.prefixes):
            return None
        reading, authors = self._access.reading(subscriber.reader.actor), self._access.shows_author()
        found, reached = relay.snapshot.walk(filter, 0, upto, subscription.form, reading=reading, authors=authors)
        return b"".join(found) if reached == upto else None

    def _missed(self, subscriber: Subscriber, last_id: str) -> bytes | None:
        """Returns the records after this id."""
        relay, actor, event_id = self._relay, subscriber.reader.actor, EventId.parse(last_id)
        if event_id is None or event_id.epoch != relay.epoch:
            return None
        after, upto = event_id.position, relay.position
        most = min(self._settings.replay_max, RECORDS_PER_SLICE)
        if (
            not (upto - most <= after <= upto)
            or after < self._access.changed_at(actor)
            or not relay.recent.holds(after)
        ):
            return None
        filter, form = subscriber.subscription.filter, subscriber.subscription.form
        reading, authors = self._access.reading(actor), self._access.shows_author()
        if reading is None and filter.everything:
            return self._missed_by_all(after, form, authors)
        frames, reached = relay.recent.read(filter, after, upto, SLICE)
        if reading is not None:
            frames = [frame for frame in frames if reading(frame.event)]
        return b"".join(encode_all(frames, form, authors)) if reached == upto else None

    def _missed_by_all(self, after: int, form: Form, authors: Authors | None) -> bytes | None:
        """Returns what all streams lack that resume after this position, without a filter and with every right. When
        the connection to many clients is lost, most of them come back with the same id, so it is put together once.

        What it depends on, the rights included, changes only with the relay's position."""
        upto = self._relay.position
        if self._shared_upto != upto or len(self._shared) >= _SHARED_MAX:
            self._shared, self._shared_upto = {}, upto
        payload = self._shared.get((after, form))
        if payload is None:
            frames, reached = self._relay.recent.read(EVERYTHING, after, upto, SLICE)
            if reached < upto:
                return None
            payload = self._shared[after, form] = b"".join(encode_all(frames, form, authors))
        return payload
