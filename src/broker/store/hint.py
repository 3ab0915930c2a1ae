"""The records that a write transaction has published, which the relay receives with the commit."""

from __future__ import annotations

from broker.records import Record
from broker.settings import MIB
from broker.store.tables import Tables

# If a transaction publishes more records than one of these limits permits, the hint has none of them, and the relay
# reads the records from the store, page by page.
_RECORDS_MAX = 1_000
_BYTES_MAX = 8 * MIB


class Hint:
    """Mutable state: the records, in position order up to the head. Those that were published first may be missing."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.records: list[Record] = []

    def record_at(self, position: int) -> Record | None:
        """Returns the published record with this position as it is now, in the middle of the transaction. Those that
        are not in the hint are in the database."""
        index = position - (self.records[0].position or 0) if self.records else -1
        return self.records[index] if index >= 0 else self._tables.record_at(position)

    def trim(self, published_bytes: int) -> None:
        """Drops the records if there are too many. They can be read from the database, so this is called after they
        are written. ``published_bytes`` is the size of their data."""
        if len(self.records) > _RECORDS_MAX or published_bytes > _BYTES_MAX:
            self.records = []
