"""Finds what has a certain filter, by the names of events."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from broker.names import Filter

_T = TypeVar("_T", bound=Hashable)


class FilterIndex(Generic[_T]):
    """Things that have filters: the hub's groups, and the subscribers that are behind.

    Mutable state: these things, by the names and the prefixes of their filters. Owned by the hub."""

    def __init__(self) -> None:
        self._everything: set[_T] = set()
        self._by_name: dict[str, set[_T]] = {}
        self._by_prefix: dict[str, set[_T]] = {}

    def add(self, filter: Filter, thing: _T) -> None:
        if filter.everything:
            self._everything.add(thing)
        for name in filter.names:
            self._by_name.setdefault(name, set()).add(thing)
        for prefix in filter.prefixes:
            self._by_prefix.setdefault(prefix, set()).add(thing)

    def discard(self, filter: Filter, thing: _T) -> None:
        self._everything.discard(thing)
        for index, keys in ((self._by_name, filter.names), (self._by_prefix, filter.prefixes)):
            for key in keys:
                things = index.get(key, set())
                things.discard(thing)
                if not things:
                    index.pop(key, None)

    def matching(self, event: str) -> set[_T]:
        """Returns the things whose filters match an event. The cost does not depend on the number of those that do not
        match. The set must not be changed."""
        if not self._by_name and not self._by_prefix:
            return self._everything
        found = self._everything | self._by_name.get(event, set())
        if self._by_prefix:
            for end in range(len(event) + 1):
                found |= self._by_prefix.get(event[:end], set())
        return found

    def near(self, beginnings: Iterable[str]) -> set[_T]:
        """Returns at least the things whose filters match some name with one of these beginnings. Each filter that is
        in use costs one comparison of strings, however many things have it."""
        found: set[_T] = set()
        for beginning in set(beginnings):
            found |= self._everything
            for name, things in self._by_name.items():
                if name.startswith(beginning):
                    found |= things
            for prefix, things in self._by_prefix.items():
                if prefix.startswith(beginning) or beginning.startswith(prefix):
                    found |= things
        return found
