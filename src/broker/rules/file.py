"""The rules file: TOML, in which each kind of event has a table that says who may do what with it."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from broker.errors import BadRequest
from broker.names import check_name
from broker.rates import parse_rates
from broker.rules.rules import OPERATIONS, REST, Operation, Pattern, Rule, Rules, is_capture
from broker.rules.who import ADMIN, ROLE, AnyUser, If, InRole, Person, Public, Term, Who, parse_who
from broker.users import is_username

FILE_BYTES_MAX = 256 * 1024
_RULES_MAX = 1_000
_EXPECTATIONS_MAX = 1_000
_LATER = {"history", "expire", "schema", "names"}  # words of rules that this version does not know yet
# What people write who know other systems.
_MEANT = {
    "write": "insert", "create": "insert", "update": "insert", "delete": "remove", "rule": "event", "rules": "event",
}  # fmt: skip
_OPTIONS = {"max_bytes", "rate", "once", "author", "open"}
_EVENT_KEYS = {"name", *OPERATIONS, *_OPTIONS}
_EXPECT_KEYS = {"who", "roles", "can", "cannot", "given"}


_HEADER = re.compile(r"\s*\[")
_TABLE = re.compile(r"\s*\[\[\s*(\w+)\s*\]\]")
_KEY = re.compile(r'\s*(?:"([^"]*)"|([^\s"=]+))\s*=')


@dataclass(frozen=True, slots=True)
class Expectation:
    """One table ``[[expect]]``: what somebody can or cannot do, which is tried before the rules take effect."""

    person: Person
    operation: Operation
    event: str
    allowed: bool
    given: frozenset[str]  # the events that have state meanwhile
    line: int

    def holds(self, rules: Rules) -> bool:
        return rules.allows(self.operation, self.event, self.person, self.given.__contains__) == self.allowed

    def __str__(self) -> str:
        roles = "".join(f" (@{role})" for role in sorted(self.person.roles))
        verb = "can" if self.allowed else "cannot"
        return f"{self.person.username or 'a stranger'}{roles} {verb} {self.operation} {self.event}"


@dataclass(frozen=True, slots=True)
class RulesFile:
    rules: Rules
    expectations: tuple[Expectation, ...]

    def failed(self) -> list[Expectation]:
        """Returns the expectations that the rules do not fulfil."""
        return [each for each in self.expectations if not each.holds(self.rules)]


def parse_file(text: str) -> RulesFile:
    """Reads the text of a rules file. Raises BadRequest that says which line is wrong, and why."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise BadRequest(f"the rules are longer than {FILE_BYTES_MAX} bytes; write fewer, with captures and *")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = text.count("\n") + 1
        said = str(error).replace("at end of document", f"at line {last}, the end of the document")
        raise BadRequest(f"{said}; a rules file is TOML, such as the one of `broker rules init`") from None
    except RecursionError:
        raise BadRequest("the file is nested too deep; it consists of tables [[event]]") from None
    places = _Places(text)
    _check_keys(content, {"roles", "event", "expect"}, lambda key: places.of(key))
    roles = _roles(content.get("roles", []), places)
    rules = tuple(
        _rule(table, roles, places, number) for number, table in _tables(content, "event", _RULES_MAX, places)
    )
    _check_forms(rules)
    used = {
        term.role for rule in rules for who in rule.rights.values() for term in who.terms if isinstance(term, InRole)
    }
    if unused := sorted(roles - used):
        raise _at(places.of("roles"), f'no rule names the role "@{unused[0]}"; use it, or take it out of the list')
    asked = Rules(
        tuple(
            Rule(Pattern(term.segments), {})
            for rule in rules for who in rule.rights.values() for term in who.terms if isinstance(term, If)
        )
    )  # fmt: skip
    expectations = tuple(
        _expectation(table, asked, roles, places, number)
        for number, table in _tables(content, "expect", _EXPECTATIONS_MAX, places)
    )
    return RulesFile(Rules(rules, roles), expectations)


class _Places:
    """Where the parts of the file are. ``tomllib`` does not say it, so the lines are searched for. Each line is read
    once, because every node reads the rules in its event loop."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._tables: dict[
            str, list[tuple[int, int]]
        ] = {}  # by the name of a table: where each of them begins and ends
        self._keys: dict[str, list[int]] = {}  # the lines of each key, in ascending order
        headers = [at for at, line in enumerate(self._lines) if _HEADER.match(line)]
        for start, end in pairwise([*headers, len(self._lines)]):
            if match := _TABLE.match(self._lines[start]):
                self._tables.setdefault(match[1], []).append((start, end))
        for at, line in enumerate(self._lines):
            if match := _KEY.match(line):
                self._keys.setdefault(match[1] or match[2], []).append(at)

    def of(self, key: str, table: str = "", number: int = 0, value: str = "") -> int:
        """Returns the line of a key, of the table with this number among those with this name, if there are several.
        Where tables are written on one line each, it is the line that has the value."""
        start, end = 0, len(self._lines)
        tables = self._tables.get(table, [])
        if number < len(tables):
            start, end = tables[number]
        keys = self._keys.get(key, [])
        first = bisect_left(keys, start)
        if first < len(keys) and keys[first] < end:
            return keys[first] + 1
        inline = (at for at in range(start, end) if value and value in self._lines[at])
        return next(inline, start) + 1


_LineOf = Callable[[str], int]  # returns the line of a key of one table


def _at(line: int, sentence: str) -> BadRequest:
    return BadRequest(f"line {line}: {sentence}")


def _check_keys(table: Mapping[str, Any], known: Collection[str], line_of: _LineOf) -> None:
    for key in table.keys() - known:
        if key in _LATER:
            raise _at(line_of(key), f'"{key}" is not known yet; this version of Broker has no such rule')
        if key == "roles":
            raise _at(line_of(key), '"roles" is for the whole file; write it above the first table')
        near = [_MEANT[key]] if _MEANT.get(key) in known else get_close_matches(key, known, 1)
        hint = f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(sorted(known))}"
        raise _at(line_of(key), f'"{key}" has no meaning here{hint}')


def _tables(content: Mapping[str, Any], name: str, most: int, places: _Places) -> list[tuple[int, dict[str, Any]]]:
    tables = content.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _at(places.of(name), f"write each {name} as a table of its own, under [[{name}]]")
    if len(tables) > most:
        raise _at(places.of(name), f"{len(tables)} tables [[{name}]]; at most {most}")
    return list(enumerate(tables))


def _roles(value: Any, places: _Places) -> frozenset[str]:
    line = places.of("roles")
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        raise _at(line, 'roles: expected a list such as ["moderator"]')
    for role in value:
        if role == ADMIN:
            raise _at(line, f'roles: "{ADMIN}" is there already, and may do everything; take it out')
        if not ROLE.match(role):
            raise _at(line, f'roles: "{role[:40]}" is no name of a role; use a-z, 0-9, _ and -, at most 32 characters')
    if len(set(value)) < len(value):
        raise _at(line, "roles: one of them is there twice")
    return frozenset(value)


def _rule(table: dict[str, Any], roles: frozenset[str], places: _Places, number: int) -> Rule:
    name = table.get("name")
    shown = name if isinstance(name, str) else ""

    def line_of(key: str) -> int:
        return places.of(key, "event", number, f'"{shown}"')

    line = line_of("name")
    if not isinstance(name, str):
        raise _at(line, 'each table [[event]] needs a name, such as name = "orders/*"')
    _check_keys(table, _EVENT_KEYS, line_of)
    try:
        pattern = Pattern.parse(name)
    except BadRequest as error:
        raise _at(line, f"name: {error}") from None
    rights: dict[Operation, Who] = {}
    for operation in OPERATIONS:
        if operation in table:
            rights[operation] = _who(table[operation], operation, pattern, roles, line_of)
    if "insert" in rights:
        rights.setdefault("remove", rights["insert"])
    if unused := sorted(pattern.captures.difference(*(who.captures for who in rights.values()))):
        raise _at(line, f"name: nothing uses {{{unused[0]}}}; for any one segment, write {{_}}")
    rule = Rule(pattern, rights, line=line, **_options(table, line_of))
    _check_openness(rule, open_said=table.get("open", False) is True, line_of=line_of)
    return rule


def _who(value: Any, operation: Operation, pattern: Pattern, roles: frozenset[str], line_of: _LineOf) -> Who:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _at(line_of(operation), f'{operation}: expected "user", or a list such as ["{{owner}}", "@moderator"]')
    try:
        who = parse_who(texts, pattern.captures, roles)
    except BadRequest as error:
        raise _at(line_of(operation), f"{operation}: {error}") from None
    if operation in ("cancel", "log") and any(map(_holds_for_strangers, who.alternatives)):
        raise _at(
            line_of(operation), f'{operation}: a stranger cannot do this, because it needs a token; write "user", or '
            '"user and if NAME"',
        )  # fmt: skip
    return who


def _options(table: dict[str, Any], line_of: _LineOf) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key in ("once", "open"):
        if key in table and not isinstance(table[key], bool):
            raise _at(line_of(key), f"{key}: expected true or false")
    if table.get("once"):
        options["once"] = True
    if "author" in table:
        if table["author"] != "public":
            raise _at(
                line_of("author"), 'author: expected "public"; without this line only readers with a token see it'
            )
        options["author_public"] = True
    if "max_bytes" in table:
        most = table["max_bytes"]
        if type(most) is not int or most < 1:
            raise _at(line_of("max_bytes"), "max_bytes: expected a number of bytes, 1 or more")
        options["max_bytes"] = most
    if "rate" in table:
        try:
            parse_rates(table["rate"] if isinstance(table["rate"], str) else "")
        except ValueError:
            raise _at(line_of("rate"), 'rate: expected a rate such as "30/minute"') from None
        options["rate"] = table["rate"]
    return options


def _check_openness(rule: Rule, *, open_said: bool, line_of: _LineOf) -> None:
    """Refuses what is easily written, and opens more than was meant."""
    for operation in ("insert", "remove"):
        limited = rule.max_bytes is not None and rule.rate
        if not limited and any(map(_holds_for_strangers, rule.who(operation).alternatives)):
            raise _at(
                line_of(operation),
                f"{operation}: strangers may do this, so the rule also needs limits, such as max_bytes = 4096 and "
                'rate = "30/minute"',
            )
    if all(segment == REST or is_capture(segment) for segment in rule.pattern.segments) and not open_said:
        for operation, who in rule.rights.items():
            if any(_holds_for_strangers(terms - {AnyUser()}) for terms in who.alternatives):
                raise _at(
                    line_of(operation),
                    f"{operation}: this is for events of any name that no other rule is about, and for everybody; if "
                    "that is meant, write open = true beside it",
                )


def _holds_for_strangers(terms: frozenset[Term]) -> bool:
    """A condition about another event can hold for strangers, too, unless it is about who asks."""
    return all(isinstance(term, Public) or (isinstance(term, If) and not term.about_me) for term in terms)


def _check_forms(rules: tuple[Rule, ...]) -> None:
    first: dict[tuple[str, ...], Rule] = {}
    for rule in rules:
        other = first.setdefault(rule.pattern.form, rule)
        if other is not rule:
            raise _at(rule.line, f'name: "{rule.pattern}" matches the same names as line {other.line}; join the two')


def _expectation(
    table: dict[str, Any], asked: Rules, roles: frozenset[str], places: _Places, number: int
) -> Expectation:
    said = [key for key in ("can", "cannot") if isinstance(table.get(key), str)]

    def line_of(key: str) -> int:
        return places.of(key, "expect", number, table[said[0]] if said else "")

    _check_keys(table, _EXPECT_KEYS, line_of)
    who, given, his_roles = table.get("who"), table.get("given", []), table.get("roles", [])
    line = line_of("who")
    if not isinstance(who, str) or not is_username(who) or who in ("user", "nobody"):
        raise _at(line, 'who: expected the name of one user, such as "bob", or "public" for a stranger')
    if who.startswith("@"):
        raise _at(line, f'who: "{who}" is a role; write who = "bob" and roles = ["{who[1:]}"]')
    if len(said) != 1:
        raise _at(line, 'write one line can = "read orders/1", or cannot = "read orders/1"')
    operation, _, event = table[said[0]].partition(" ")
    if operation not in OPERATIONS:
        raise _at(line_of(said[0]), f"{said[0]}: expected one of {', '.join(OPERATIONS)}, and the name of an event")
    for key, names in (("given", given), ("roles", his_roles)):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _at(line_of(key), f"{key}: expected a list of names")
    if unknown := sorted(set(his_roles) - roles - {ADMIN}):
        raise _at(line_of("roles"), f'roles: "{unknown[0]}" is not one of the roles of this file')
    if "*" in event:
        raise _at(line_of(said[0]), f"{said[0]}: name one event, such as orders/1")
    try:
        for name in (event, *given):
            check_name(name)
    except BadRequest as error:
        raise _at(line_of(said[0]), str(error)) from None
    for name in given:
        if asked.find(name) is None:
            raise _at(line_of("given"), f'given: no rule has a condition ("if …") about "{name}"; is the name right?')
    person = Person(None if who == "public" else who, frozenset(his_roles))
    return Expectation(person, operation, event, said[0] == "can", frozenset(given), line)
