"""For which events the right to read is decided together, and what one reader may read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from operator import itemgetter

from broker.rules.rules import Rules
from broker.rules.who import NOBODY, Exists, Person, Who

_EVENTS_MAX = 250_000  # events whose key is remembered, more than have state by default; some hundred bytes each
_EVENT = itemgetter(1)  # of an entry of the snapshot's order


class ReadKey:
    """The events that the same rule decides on, with the same text of each capture that the rule's ``read`` looks at.
    Whoever may read one of them may read all of them."""

    __slots__ = ("_captures", "_who")

    def __init__(self, who: Who, captures: Mapping[str, str]) -> None:
        self._who = who
        self._captures = captures

    def allows(self, person: Person, exists: Exists) -> bool:
        return self._who.allows(person, self._captures, exists)


class ReadKeys(dict[str, ReadKey]):
    """The key of each event, by the event's name. A new stream may have to look at 100,000 events, of which its reader
    may read a few. So the keys are remembered, and ``Reading`` decides once for each key.

    It is a dict that makes what is missing, because the look-up of a known key then runs no Python code.

    Mutable state: the keys. They depend on the rules alone, and belong to the event loop, but a thread may read them,
    too: each step is one operation on a dict."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
        # By the form of the rule's pattern, and the text of the captures.
        self._keys: dict[tuple[tuple[str, ...], tuple[str, ...]], ReadKey] = {}

    def __missing__(self, event: str) -> ReadKey:
        if len(self) >= _EVENTS_MAX:
            self.clear()
            self._keys = {}
        key = self[event] = self._make(event)
        return key

    def _make(self, event: str) -> ReadKey:
        match = self._rules.search(event)
        if match is None:
            return self._keys.setdefault(((), ()), ReadKey(NOBODY, {}))
        who = match.rule.who("read")
        used = who.captures
        captures = {name: text for name, text in match.captures.items() if name in used}
        return self._keys.setdefault((match.rule.pattern.form, tuple(captures.values())), ReadKey(who, captures))


class Reading:
    """What one reader may read. An answer is remembered, so an object of this class must not be used any more when
    the rights of its reader have changed. Whoever cannot exclude that checks the result with ``Reads.check_again``."""

    __slots__ = ("_decided", "_keys")

    def __init__(self, keys: ReadKeys, person: Person, exists: Exists) -> None:
        self._keys = keys
        self._decided = _Decided(person, exists)

    def __call__(self, event: str) -> bool:
        """Returns whether the reader may read the event with this name."""
        return self._decided[self._keys[event]]

    def visible(self, entries: Iterable[tuple[int, str]]) -> Iterable[tuple[int, str]]:
        """Returns those of some positions and names of events whose event the reader may read."""
        events = list(entries)
        keys = map(self._keys.__getitem__, map(_EVENT, events))
        return compress(events, map(self._decided.__getitem__, keys))


class _Decided(dict[ReadKey, bool]):
    """Whether the reader may read the events of a key; what is missing is decided."""

    def __init__(self, person: Person, exists: Exists) -> None:
        super().__init__()
        self._person = person
        self._exists = exists

    def __missing__(self, key: ReadKey) -> bool:
        allowed = self[key] = key.allows(self._person, self._exists)
        return allowed
