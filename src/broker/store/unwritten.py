"""The rows that a write transaction has made, and has not written to the database yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.store.tables import Tables


class Unwritten:
    """The values of the rows of each table, row after row, so that many rows are written by one statement.

    Mutable state: all of it. The transaction adds rows, and ``flush`` writes them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.pending_changed = False  # whether rows of ``pending`` were added or removed
        self.records: list[Any] = []
        self.publications: list[int] = []
        self.pending: list[Any] = []
        self.endings: list[Any] = []
        self.cancellations: list[Any] = []
        self.unpending: list[tuple[int, int]] = []  # the rows of ``pending`` to remove: (due time, number)

    def flush(self) -> None:
        """Writes the rows, so that queries see them."""
        tables = self._tables
        if self.records:
            tables.add_records(self.records)
        if self.pending or self.unpending:
            self.pending_changed = True
        if self.endings:
            tables.add_endings(self.endings)
        if self.pending:
            tables.add_pending(self.pending)
        if self.unpending:
            tables.remove_pending(self.unpending)
        if self.cancellations:
            tables.add_cancellations(self.cancellations)
        if self.publications:
            tables.add_publications(self.publications)
        for rows in self._lists():
            rows.clear()

    def undo(self) -> Callable[[], None]:
        """Returns a function that drops the rows that are added from now on. Nothing is flushed until then, so the
        lists only grow, and cutting them to their old length is enough."""
        lengths = [len(rows) for rows in self._lists()]

        def undo() -> None:
            for rows, length in zip(self._lists(), lengths, strict=True):
                del rows[length:]

        return undo

    def _lists(self) -> tuple[list[Any], ...]:
        return self.records, self.publications, self.pending, self.endings, self.cancellations, self.unpending
