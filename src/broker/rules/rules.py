"""The rules as a whole: which of them decides on an event, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

from broker.errors import BadRequest
from broker.names import check_name
from broker.rules.who import CAPTURE, NOBODY, AnyUser, Exists, If, Person, Public, Who

Operation = Literal["read", "insert", "remove", "cancel", "log"]
Right = bool | Literal["own"]  # to cancel is "own" for whoever may cancel only what they have inserted
OPERATIONS: tuple[Operation, ...] = ("read", "insert", "remove", "cancel", "log")

_WRITES: tuple[Operation, ...] = ("insert", "remove")

ANY, REST = "{_}", "*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """The event names that a rule is about. A segment is a literal, a capture ``{x}``, which is any non-empty segment,
    or, as the last one, ``*``, which is one or more segments."""

    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises BadRequest."""
        segments = tuple(text.split("/"))
        captures = [segment for segment in segments if CAPTURE.match(segment) and segment != ANY]
        for segment in segments:
            if segment == "{me}":
                raise BadRequest(f'"{text}": {{me}} is for "if NAME" only; give the segment another name')
            if not CAPTURE.match(segment) and ("{" in segment or "}" in segment):
                raise BadRequest(
                    f'"{text}": "{segment}" is no segment; {{x}} is a whole one, and x consists of a-z, 0-9 and _'
                )
            if REST in segment and segment != REST:
                raise BadRequest(f'"{text}": * is a whole segment, as in orders/*')
        if REST in segments[:-1]:
            raise BadRequest(f'"{text}": * is the last segment; for any one segment before it, write {{_}}')
        if len(set(captures)) < len(captures):
            raise BadRequest(f'"{text}": a capture occurs twice; give its segments different names')
        try:
            check_name("/".join("x" if _is_wild(segment) else segment for segment in segments))
        except BadRequest as error:
            raise BadRequest(f'"{text}": {str(error).removeprefix("event: ")}') from None
        return cls(segments)

    def __str__(self) -> str:
        return "/".join(self.segments)

    @property
    def captures(self) -> frozenset[str]:
        return frozenset(segment[1:-1] for segment in self.segments if is_capture(segment) and segment != ANY)

    @property
    def form(self) -> tuple[str, ...]:
        """The pattern without the names of its captures. Two patterns with the same form match the same names."""
        return tuple(ANY if is_capture(segment) else segment for segment in self.segments)

    def capture(self, event: str) -> dict[str, str]:
        """Returns the captured segments of an event that this pattern matches."""
        pairs = zip(self.segments, event.split("/"), strict=False)
        return {pattern[1:-1]: segment for pattern, segment in pairs if is_capture(pattern) and pattern != ANY}


def is_capture(segment: str) -> bool:
    return CAPTURE.match(segment) is not None


def common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the form of the names that match both patterns, whose segments these are; () if there are none."""
    found: list[str] = []
    for mine, its in zip_longest(one, other):
        if REST in (mine, its):
            rest = other[len(found) :] if mine == REST else one[len(found) :]
            return (*found, *rest) if rest else ()
        if mine is None or its is None or (mine != its and not (is_capture(mine) or is_capture(its))):
            return ()
        found.append(its if is_capture(mine) else mine)
    return tuple(found)


def _is_wild(segment: str) -> bool:
    return segment == REST or is_capture(segment)


@dataclass(frozen=True, slots=True)
class Rule:
    """One table ``[[event]]`` of the rules file."""

    pattern: Pattern
    rights: Mapping[Operation, Who]  # of each operation; without ``cancel``, whoever has inserted a record cancels it
    max_bytes: int | None = None  # of the data
    rate: str = ""  # inserts of one user, or of one address where strangers may insert; as in settings
    once: bool = False  # whether only events without state accept an insert
    author_public: bool = False  # whether readers without a token see who has inserted a record
    line: int = 0  # of the file
    # What follows from the above, and is asked for each insert: whether every user may insert and remove without a
    # limit; and whether a right depends on the state of another event.
    free: bool = field(init=False, default=False, compare=False)
    conditional: bool = field(init=False, default=False, compare=False)

    def __post_init__(self) -> None:
        open_to_users = all(
            any(terms <= {Public(), AnyUser()} for terms in self.who(operation).alternatives) for operation in _WRITES
        )
        object.__setattr__(self, "free", open_to_users and self.max_bytes is None and not self.once)
        conditional = any(isinstance(term, If) for who in self.rights.values() for term in who.terms)
        object.__setattr__(self, "conditional", conditional)

    def who(self, operation: Operation) -> Who:
        return self.rights.get(operation, NOBODY)


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that decides on an event."""

    rule: Rule
    captures: Mapping[str, str]

    def allows(self, operation: Operation, person: Person, exists: Exists) -> bool:
        """Whether the person has this right. To cancel is a right of whoever has inserted the record, too, unless the
        rule says who may; the caller compares that."""
        return self.rule.who(operation).allows(person, self.captures, exists)

    def conditions(self, operation: Operation, person: Person) -> list[str]:
        """Returns the names of the events on whose state this right may depend."""
        names = (
            term.name(person.username, self.captures) for term in self.rule.who(operation).terms if isinstance(term, If)
        )
        return [name for name in names if name is not None]


@dataclass(slots=True)
class _Node:
    """The rules whose patterns begin with the same segments."""

    children: dict[str, _Node] = field(default_factory=dict)
    rule: Rule | None = None
    rest: Rule | None = None  # of the pattern that has * in this place


_FOUND_MAX = 20_000  # event names of which it is remembered which rule decides; some hundred bytes each


class Rules:
    """All rules. It is built once, and is not changed afterwards.

    Mutable state: which rule decides on the names that were looked for. Several threads may use it: each step is one
    operation on a dict, and what two threads find for the same name is equal."""

    def __init__(self, rules: tuple[Rule, ...] = (), roles: frozenset[str] = frozenset()) -> None:
        """The forms of the rules' patterns are different."""
        self.rules = rules
        self.roles = roles
        self.conditional = any(rule.conditional for rule in rules)
        self.limits_rates = any(rule.rate for rule in rules)
        self._root = _Node()
        self._found: dict[str, Match | None] = {}
        for rule in rules:
            node = self._root
            for segment in rule.pattern.form:
                if segment == REST:
                    node.rest = rule
                else:
                    node = node.children.setdefault(segment, _Node())
            if rule.pattern.segments[-1] != REST:
                node.rule = rule

    def find(self, event: str) -> Match | None:
        """Returns the rule with the most specific pattern. Segment by segment from the left, a literal is more specific
        than a capture, and a capture more specific than ``*``. Returns None if no pattern matches, and for Broker's own
        events, which no rule is about: then only ``@admin`` has rights."""
        try:
            return self._found[event]
        except KeyError:
            pass
        match = self.search(event)
        if len(self._found) >= _FOUND_MAX:
            self._found = {}
        self._found[event] = match
        return match

    def search(self, event: str) -> Match | None:
        """Does the same as ``find``, and remembers nothing."""
        if event.startswith("$"):
            return None
        rule = next(_matching(self._root, event.split("/"), 0), None)
        return None if rule is None else Match(rule, rule.pattern.capture(event))

    def allows(self, operation: Operation, event: str, person: Person, exists: Exists) -> bool:
        match = self.find(event)
        if match is None:
            return NOBODY.allows(person, {}, exists)
        return match.allows(operation, person, exists)


def _matching(node: _Node, segments: list[str], at: int) -> Iterator[Rule]:
    """Yields the rules that match, the most specific one first."""
    if at == len(segments):
        if node.rule is not None:
            yield node.rule
        return
    segment = segments[at]
    if segment != ANY and (child := node.children.get(segment)) is not None:
        yield from _matching(child, segments, at + 1)
    if segment and (child := node.children.get(ANY)) is not None:
        yield from _matching(child, segments, at + 1)
    if node.rest is not None:
        yield node.rest
