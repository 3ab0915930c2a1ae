"""The events that rules ask about with ``if NAME``: whom they admit, and for which events that changes something."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from broker.rules.rules import ANY, REST
from broker.rules.who import CAPTURE, ME, If

_NOBODY: frozenset[str] = frozenset()
_K = TypeVar("_K")
_V = TypeVar("_V")

# An event that a condition is about: the condition's segments, and the text of each capture in them, in their order.
_Key = tuple[tuple[str, ...], tuple[str, ...]]


class Asked(NamedTuple):
    """A condition of a rule that is about a certain event."""

    key: _Key
    username: str | None  # whom the event admits; None: the condition is not about a user
    form: tuple[str, ...]  # of the events on whose reading it decides


class Members:
    """Holds the names of the users for whom the conditions about ``{me}`` hold. There are at most as many as there are
    events.

    Mutable state: these names, by condition and by user; and for each user the position at which that changed last.
    Owned by ``Access``."""

    def __init__(self, conditions: Iterable[tuple[tuple[str, ...], If]]) -> None:
        """``conditions`` has the segments of a rule's pattern, and a condition of that rule."""
        self.asked = tuple(dict.fromkeys(conditions))
        self._users: dict[_Key, set[str]] = {}
        self._keys: dict[str, set[_Key]] = {}
        self._changed_at: dict[str, int] = {}

    def asking_about(self, event: str) -> list[Asked]:
        """Returns the conditions that are about this event."""
        segments = event.split("/")
        found: list[Asked] = []
        for pattern, condition in self.asked:
            bound = _bind(condition.segments, segments)
            if bound is not None:
                username = bound.pop(ME, None)
                form = tuple(_substituted(segment, bound) for segment in pattern)
                found.append(Asked((condition.segments, _values(condition.segments, bound)), username, form))
        return found

    def put(self, asked: list[Asked], *, holds: bool, position: int) -> str | None:
        """Notes whether an event has state, and since which position that counts. ``asked`` is what ``asking_about``
        has returned for the event. Returns the only user for whom that changes anything; None: it is for everybody."""
        usernames = {each.username for each in asked if each.username is not None}
        for each in asked:
            if each.username is None:
                continue
            if holds:
                self._users.setdefault(each.key, set()).add(each.username)
                self._keys.setdefault(each.username, set()).add(each.key)
            else:
                _discard(self._users, each.key, each.username)
                _discard(self._keys, each.username, each.key)
            self._changed_at[each.username] = max(position, self._changed_at.get(each.username, 0))
        return None if len(usernames) != 1 or any(each.username is None for each in asked) else usernames.pop()

    def of(self, condition: tuple[str, ...], captures: Mapping[str, str]) -> Collection[str]:
        """Returns the users for whom a condition with these segments holds, for an event with these captures. The
        returned set changes with the log."""
        bound = {f"{{{name}}}": text for name, text in captures.items()}
        return self._users.get((condition, _values(condition, bound)), _NOBODY)

    def changed_at(self, username: str) -> int:
        return self._changed_at.get(username, 0)


def _discard(sets: dict[_K, set[_V]], key: _K, value: _V) -> None:
    members = sets.get(key)
    if members is not None:
        members.discard(value)
        if not members:
            del sets[key]


def _bind(condition: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    """Returns what each capture of the condition stands for, ``{me}`` included, if this is the name of an event that
    the condition is about."""
    if len(condition) != len(segments):
        return None
    bound: dict[str, str] = {}
    for wanted, segment in zip(condition, segments, strict=True):
        if CAPTURE.match(wanted):
            if not segment or bound.setdefault(wanted, segment) != segment:
                return None
        elif wanted != segment:
            return None
    return bound


def _values(condition: tuple[str, ...], bound: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(bound[segment] for segment in condition if segment != ME and CAPTURE.match(segment))


def _substituted(segment: str, bound: Mapping[str, str]) -> str:
    """Returns the segment of the form of a pattern, with the text of a capture in its place if that is known."""
    if segment == REST:
        return REST
    return bound.get(segment, ANY) if CAPTURE.match(segment) else segment
