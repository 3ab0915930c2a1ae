"""For which events the right to read is decided together."""

from __future__ import annotations

from collections.abc import Mapping

from broker.rules.rules import Rules
from broker.rules.who import NOBODY, Exists, If, Named, Person, Who

_EVENTS_MAX = 250_000  # events whose key is remembered, more than have state by default; some hundred bytes each


class ReadKey:
    """The events that the same rule decides on, with the same text of each capture that the rule's ``read`` looks at.
    Whoever may read one of them may read all of them."""

    __slots__ = ("_captures", "_who")

    def __init__(self, who: Who, captures: Mapping[str, str]) -> None:
        self._who = who
        self._captures = captures

    def allows(self, person: Person, exists: Exists) -> bool:
        return self._who.allows(person, self._captures, exists)


class ReadKeys:
    """A new stream may have to look at 100,000 events, of which its reader may read a few. So the key of each event is
    remembered, and the stream decides once for each key.

    Mutable state: the keys. They depend on the rules alone, and belong to the event loop, but a thread may read them,
    too: each step is one operation on a dict."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._by_event: dict[str, ReadKey] = {}
        # By the form of the rule's pattern, and the text of the captures.
        self._keys: dict[tuple[tuple[str, ...], tuple[str, ...]], ReadKey] = {}

    def of(self, event: str) -> ReadKey:
        key = self._by_event.get(event)
        if key is None:
            if len(self._by_event) >= _EVENTS_MAX:
                self._by_event, self._keys = {}, {}
            key = self._by_event[event] = self._make(event)
        return key

    def _make(self, event: str) -> ReadKey:
        match = self._rules.search(event)
        if match is None:
            return self._keys.setdefault(((), ()), ReadKey(NOBODY, {}))
        who = match.rule.who("read")
        used = {term.capture for term in who.terms if isinstance(term, Named)}
        used |= {segment[1:-1] for term in who.terms if isinstance(term, If) for segment in term.segments}
        captures = {name: text for name, text in match.captures.items() if name in used}
        return self._keys.setdefault((match.rule.pattern.form, tuple(captures.values())), ReadKey(who, captures))
