"""What each user takes of the log's limits, in a write transaction, and the limits of one user (quotas)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from broker.errors import QuotaExceeded
from broker.settings import Settings
from broker.store.tables import Tables


class Usage:
    """Three numbers for each user: events whose latest version is the user's, and pending records, together; the bytes
    of both; and the pending records alone. A pending record counts for its author from its insert on, whatever event it
    is of, because its publication cannot be refused. So every name and every byte that counts in the log counts for
    somebody, and nobody can be made to pay for what others insert.

    Strangers and the operator have no name, so all of them together are counted as the user "".

    Mutable state: the numbers that were read, and the changes that are not written yet. Changes are added in the
    database, so a user's numbers need not be read unless a limit has to be compared with them."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._limits = (
            settings.event_names_per_user_max or (settings.event_names_max + 1) // 2,
            settings.snapshot_bytes_per_user_max or (settings.snapshot_bytes_max + 1) // 2,
            settings.pending_per_user_max,
        )
        self.expected: Iterable[str] = ()  # users whose numbers are read together with the first that are needed
        self._stored: dict[str, tuple[int, int, int]] = {}
        self._changes: dict[str, tuple[int, int, int]] = {}
        self._made: list[tuple[str, int, int, int]] = []  # each change since the last flush, in order

    def check(self, user: str, names: int, size: int, pending: int) -> None:
        """Raises QuotaExceeded if one of the numbers would grow by this much, beyond its limit."""
        if user not in self._stored:
            missing = {user, *self.expected} - self._stored.keys()
            self._stored |= dict.fromkeys(missing, (0, 0, 0))
            self._stored |= {row[0]: row[1:] for row in self._tables.usage(sorted(missing))}
        stored, changed = self._stored[user], self._changes.get(user, (0, 0, 0))
        for more, one, other, limit, explain in zip(
            (names, size, pending), stored, changed, self._limits, _MESSAGES, strict=True
        ):
            if more > 0 and one + other + more > limit:
                raise QuotaExceeded(explain(one + other, more, limit) if user else _OF_STRANGERS)

    def add(self, user: str, names: int, size: int, pending: int) -> None:
        before = self._changes.get(user, (0, 0, 0))
        self._changes[user] = before[0] + names, before[1] + size, before[2] + pending
        self._made.append((user, names, size, pending))

    def undo(self) -> Callable[[], None]:
        """Returns a function that takes back the changes from now on. Nothing is flushed until then."""
        length = len(self._made)

        def undo() -> None:
            for user, names, size, pending in reversed(self._made[length:]):
                self.add(user, -names, -size, -pending)
            del self._made[length:]

        return undo

    def flush(self) -> None:
        """Writes the changes."""
        values: list[str | int] = []
        for user, change in self._changes.items():
            if change != (0, 0, 0):
                values += (user, *change)
                if user in self._stored:
                    before = self._stored[user]
                    self._stored[user] = before[0] + change[0], before[1] + change[1], before[2] + change[2]
        if values:
            self._tables.add_usage(values)
        self._changes, self._made = {}, []


# The messages have the numbers of the user alone, and nothing from which those of others follow. All strangers count as
# one user, so they learn no number.
_OF_STRANGERS = "whoever has no account cannot insert this now: what all of them may have together is used up; log in"


def _names(used: int, more: int, limit: int) -> str:
    return (
        f"{used} events and pending records count for you, because the latest version, or what is pending, is yours, "
        f"and {limit} may count for one user (event_names_per_user_max); remove events (insert null), or cancel what "
        "is pending"
    )


def _bytes(used: int, more: int, limit: int) -> str:
    return (
        f"the latest versions and the pending records that are yours would have {used + more} bytes with this one "
        f"({more} more), and those of one user may have {limit} (snapshot_bytes_per_user_max); insert smaller data, "
        "remove events (insert null), or cancel what is pending"
    )


def _pending(used: int, more: int, limit: int) -> str:
    return (
        f"{used} records of yours are pending, and one user may have {limit} (pending_per_user_max); cancel some, or "
        "wait until they are published"
    )


_MESSAGES = (_names, _bytes, _pending)
