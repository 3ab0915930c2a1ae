"""The grammar of event names and of filters (docs/http.md). No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from broker.errors import BadRequest

NAME_BYTES_MAX = 255
# Broker's own events. Only administrators read or write them, and no stream or snapshot has them.
RULES_EVENT = "$rules"
USER_EVENT = "$user/"  # followed by the user's id
# Control characters (C0, DEL and C1), because a line break in a name would inject lines into a stream; and surrogates,
# which UTF-8 cannot express.
_REFUSED_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# In every page, events of these names would call the handlers of EventSource's own `error` and `open` events.
_REFUSED_NAMES = frozenset({"error", "open"})


@lru_cache(10_000)  # most inserts are to events that exist; a refusal is not remembered
def check_name(name: str) -> str:
    """Returns ``name`` if it is an event name. Raises BadRequest that says what is wrong with it."""
    if not name:
        raise BadRequest("event: the name is empty; give it 1 to 255 bytes")
    if _REFUSED_CHARACTERS.search(name):
        raise BadRequest("event: the name has a control character (or half a surrogate pair); take it out")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"event: the name is longer than {NAME_BYTES_MAX} bytes of UTF-8")
    if name.startswith("$"):
        raise BadRequest("event: names that start with $ are reserved for Broker's own events")
    if "*" in name:
        raise BadRequest("event: a name has no *; it is for filters")
    if name in _REFUSED_NAMES:
        raise BadRequest(f"event: {name!r} would fire EventSource's own handler; choose another name")
    if name in (".", "..") or ("." in name and not {".", ".."}.isdisjoint(name.split("/"))):
        raise BadRequest("event: a path segment must not be . or .. (browsers rewrite such URLs)")
    return name


@dataclass(frozen=True, slots=True)
class Filter:
    """The events that a subscription asks for: exact names, and prefixes, which are written ``NAME*``. A filter without
    any matches every event."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()  # sorted, so that equal filters are equal

    @classmethod
    def parse(cls, patterns: list[str], patterns_max: int) -> Filter:
        """Raises BadRequest for a pattern that no event name can match, and for too many patterns."""
        if len(patterns) > patterns_max:
            raise BadRequest(f"event: {len(patterns)} filters on one stream; at most {patterns_max}, or use a prefix*")
        names, prefixes = set[str](), set[str]()
        for pattern in patterns:
            if pattern == "*":
                return EVERYTHING
            if pattern.endswith("*"):
                prefix = pattern[:-1]
                check_name(prefix + "x")  # a prefix is permitted if a name can begin with it: `orders/` can, `$` cannot
                prefixes.add(prefix)
            else:
                names.add(check_name(pattern))
        return cls(frozenset(names), tuple(sorted(prefixes)))

    @property
    def everything(self) -> bool:
        return not self.names and not self.prefixes

    def matches(self, event: str) -> bool:
        return event in self.names or event.startswith(self.prefixes) or self.everything


EVERYTHING = Filter()
