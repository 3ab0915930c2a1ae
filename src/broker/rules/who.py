"""To whom a rule gives a right: the words of the rules file, and the decision for one person."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from broker.errors import BadRequest
from broker.names import check_name

ADMIN = "admin"  # the role that may do everything, whatever the rules say
ME = "{me}"

CAPTURE = re.compile(r"\{([a-z_][a-z0-9_]*)\}\Z")
ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")


class Person(NamedTuple):
    """Somebody who asks for something."""

    username: str | None  # None: a stranger, without a token
    roles: frozenset[str] = frozenset()


STRANGER = Person(None)

# Returns whether an event has state, and is not ``false``.
Exists = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Public:
    """Everybody, also without a token."""

    def __str__(self) -> str:
        return "public"

    def holds(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class AnyUser:
    """Everybody with a valid token."""

    def __str__(self) -> str:
        return "user"

    def holds(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        return person.username is not None


@dataclass(frozen=True, slots=True)
class Named:
    """The user whose whole name is the segment that was captured. The segment is compared, and never becomes a part of
    a pattern, so no user name can match more than itself."""

    capture: str

    def __str__(self) -> str:
        return f"{{{self.capture}}}"

    def holds(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        return person.username is not None and person.username == captures[self.capture]


@dataclass(frozen=True, slots=True)
class InRole:
    role: str

    def __str__(self) -> str:
        return f"@{self.role}"

    def holds(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        return person.username is not None and self.role in person.roles


@dataclass(frozen=True, slots=True)
class If:
    """Whoever asks, as long as another event has state. The segments of its name are literals, captures and ``{me}``,
    which is the name of the person who asks."""

    segments: tuple[str, ...]

    def __str__(self) -> str:
        return f"if {'/'.join(self.segments)}"

    @property
    def about_me(self) -> bool:
        return ME in self.segments

    def name(self, username: str | None, captures: Mapping[str, str]) -> str | None:
        """Returns the name of the other event, or None for a stranger, whom no name can be about."""
        if username is None and self.about_me:
            return None
        known = {ME: username or "", **{f"{{{name}}}": segment for name, segment in captures.items()}}
        return "/".join(known.get(segment, segment) for segment in self.segments)

    def holds(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        name = self.name(person.username, captures)
        return name is not None and exists(name)


Term = Public | AnyUser | Named | InRole | If


@dataclass(frozen=True, slots=True)
class Who:
    """Any of the alternatives, each of which is a list of terms that must all hold. Without alternatives it is nobody.
    ``@admin`` is not part of it: that role may do everything."""

    alternatives: tuple[frozenset[Term], ...] = ()

    def __str__(self) -> str:
        texts = sorted(" and ".join(sorted(map(str, terms))) for terms in self.alternatives)
        return ", ".join(texts) or "nobody"

    @property
    def terms(self) -> frozenset[Term]:
        return frozenset().union(*self.alternatives)

    @property
    def captures(self) -> frozenset[str]:
        """The names of the captures that it looks at."""
        named = {term.capture for term in self.terms if isinstance(term, Named)}
        segments = [segment for term in self.terms if isinstance(term, If) for segment in term.segments]
        return frozenset(named | {match[1] for segment in segments if (match := CAPTURE.match(segment))})

    def allows(self, person: Person, captures: Mapping[str, str], exists: Exists) -> bool:
        if ADMIN in person.roles and person.username is not None:
            return True
        return any(all(term.holds(person, captures, exists) for term in terms) for terms in self.alternatives)


NOBODY = Who()


def parse_who(texts: list[str], captures: frozenset[str], roles: frozenset[str]) -> Who:
    """Reads the value of an operation. ``captures`` are those of the event's name, and ``roles`` those of the file.
    Raises BadRequest that names the text which is wrong."""
    alternatives: list[frozenset[Term]] = []
    for text in texts:
        if text == "nobody":
            if len(texts) > 1:
                raise BadRequest('"nobody" stands alone; leave it out of the list')
            continue
        alternatives.append(frozenset(_parse_term(each.strip(), captures, roles) for each in text.split(" and ")))
    return Who(tuple(dict.fromkeys(alternatives)))


def _parse_term(text: str, captures: frozenset[str], roles: frozenset[str]) -> Term:
    if text in ("public", "user"):
        return Public() if text == "public" else AnyUser()
    if text.startswith("@"):
        if text[1:] == ADMIN:
            raise BadRequest(f'"{text}" may do everything already; leave it out, or write "nobody"')
        if text[1:] not in roles:
            raise BadRequest(f'"{text}" is not one of the roles; add it to the line roles = [...]')
        return InRole(text[1:])
    if text.startswith("if "):
        return _parse_if(text[3:].strip(), captures)
    if match := CAPTURE.match(text):
        _check_capture(match[1], captures)
        return Named(match[1])
    if text == "nobody":
        raise BadRequest('"nobody" stands alone, without "and"')
    if " or " in text:
        raise BadRequest(f'"{text[:60]}": for one or the other, write a list of texts, such as ["{{x}}", "@role"]')
    raise BadRequest(
        f'"{text[:60]}" is no one: write "nobody", "public", "user", "{{x}}" for a segment {{x}} of the name, "@role", '
        '"if NAME", or several of them with "and" between'
    )


def _parse_if(text: str, captures: frozenset[str]) -> If:
    segments = text.split("/")
    sample: list[str] = []
    for segment in segments:
        match = CAPTURE.match(segment)
        if match and segment != ME:
            _check_capture(match[1], captures)
        elif not match and ("{" in segment or "}" in segment):
            raise BadRequest(f'"if {text}": {{x}} is a whole segment, between two /')
        sample.append("x" if match else segment)
    if " " in text:
        raise BadRequest(f'"if {text}": the name has a blank; conditions are joined by " and "')
    try:
        check_name("/".join(sample))
    except BadRequest as error:
        raise BadRequest(f'"if {text}": {str(error).removeprefix("event: ")}') from None
    return If(tuple(segments))


def _check_capture(name: str, captures: frozenset[str]) -> None:
    if name == "me":
        raise BadRequest('"{me}" stands only in "if NAME"; for everybody who has logged in, write "user"')
    if name == "_":
        raise BadRequest('"{_}" is any segment, and cannot be compared; give the segment of the name another name')
    if name not in captures:
        raise BadRequest(f'"{{{name}}}" is not a segment of the name; write it there, too')
