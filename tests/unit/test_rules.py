"""Which rule decides on an event, and what it says."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BadRequest
from broker.rules.file import RulesFile, parse_file
from broker.rules.rules import OPERATIONS, REST, Operation, Pattern, Rules, is_capture
from broker.rules.who import ADMIN, STRANGER, Person
from broker.rules.wider import widenings
from tests.support.rules import NAMES, PERSONS, random_rules

ADA, BOB, EVE = (Person(name) for name in ("ada", "bob", "eve"))
ROOM = """
roles = ["moderator"]

[[event]]
name   = "room/{owner}/{room}/member/{who}"
read   = ["{owner}", "if room/{owner}/{room}/member/{me}"]
insert = "{owner}"
remove = ["{owner}", "{who}"]

[[event]]
name   = "room/{owner}/{room}/message/{from}/*"
read   = ["{owner}", "if room/{owner}/{room}/member/{me}", "@moderator"]
insert = ["{from} and {owner}", "{from} and if room/{owner}/{room}/member/{from}"]
cancel = ["{from}", "@moderator"]
log    = "@moderator"
max_bytes = 4096
rate   = "30/minute"
"""


def allowed(rules: Rules, who: Person, request: str, *given_names: str) -> bool:
    operation, event = request.split(" ", 1)
    assert operation in OPERATIONS
    return rules.allows(operation, event, who, given_names.__contains__)


@pytest.fixture(scope="module")
def room() -> Rules:
    return parse_file(ROOM).rules


MEMBER = "room/ada/7/member/bob"


@pytest.mark.parametrize(
    ("who", "request_", "given_names", "expected"),
    [
        (ADA, "read room/ada/7/member/bob", (), True),
        (BOB, "read room/ada/7/member/eve", (), False),
        (BOB, "read room/ada/7/member/eve", (MEMBER,), True),
        (BOB, "insert room/ada/7/member/bob", (), False),
        (BOB, "remove room/ada/7/member/bob", (MEMBER,), True),
        (EVE, "remove room/ada/7/member/bob", (MEMBER,), False),
        (BOB, "insert room/ada/7/message/bob/1", (MEMBER,), True),
        (BOB, "insert room/ada/7/message/bob/1", (), False),
        (BOB, "insert room/ada/7/message/ada/1", (MEMBER,), False),
        (ADA, "insert room/ada/7/message/ada/1", (), True),
        (ADA, "insert room/ada/7/message/bob/1", (MEMBER,), False),
        (BOB, "read room/ada/8/message/ada/1", (MEMBER,), False),
        (EVE, "read room/ada/7/message/ada/1/2/3", (), False),
        (Person("mo", frozenset({"moderator"})), "read room/ada/7/message/ada/1/2/3", (), True),
        (Person("mo", frozenset({"moderator"})), "log room/ada/7/message/ada/1", (), True),
        (ADA, "log room/ada/7/message/ada/1", (), False),
        (STRANGER, "read room/ada/7/message/ada/1", (), False),
        (Person("root", frozenset({ADMIN})), "log anything/at/all", (), True),
        (Person(None, frozenset({ADMIN})), "log anything/at/all", (), False),
        (ADA, "read other", (), False),
        (ADA, "read $rules", (), False),
        (Person("root", frozenset({ADMIN})), "insert $rules", (), True),
    ],
)
def test_a_room_with_members(
    room: Rules, who: Person, request_: str, given_names: tuple[str, ...], expected: bool
) -> None:
    assert allowed(room, who, request_, *given_names) is expected


@pytest.mark.parametrize(
    ("event", "pattern"),
    [
        ("a", "*"),
        ("a/b", "a/b"),
        ("a/c", "a/{_}"),
        ("a/c/d", "a/{_}/d"),
        ("a/b/d", "a/b/*"),
        ("a/c/e", "a/*"),
        ("a/b/", "a/b/*"),
        ("a/", "a/*"),
        ("b/c", "{_}/c"),
        ("b/d", "*"),
        ("a/{_}", "a/{_}"),
        ("/c", "*"),
    ],
)
def test_segment_by_segment_a_literal_comes_before_a_capture_and_a_capture_before_the_rest(
    event: str, pattern: str
) -> None:
    patterns = ["*", "a/*", "a/{_}", "a/{_}/d", "a/b", "a/b/*", "{_}/c"]
    rules = parse_file("".join(f'[[event]]\nname = "{each}"\n' for each in patterns)).rules
    match = rules.find(event)
    assert match is not None
    assert str(match.rule.pattern) == pattern


@pytest.mark.parametrize("name", ["*", "..", "a/b", "{to}", "%2F", "", "+", "#", "{me}", "Ada"])
def test_no_user_name_matches_more_than_itself(name: str) -> None:
    rules = parse_file('[[event]]\nname = "inbox/{to}/*"\nread = ["{to}", "if friend/{to}/{me}"]\n').rules
    for other in ("ada", "x", "b"):
        assert not allowed(rules, Person(name), f"read inbox/{other}/1", f"friend/{other}/bob")


@given(st.text(min_size=1).filter(lambda text: "/" not in text))
def test_a_capture_is_exactly_one_segment_of_any_text(segment: str) -> None:
    rules = parse_file('[[event]]\nname = "inbox/{to}/1"\nread = "{to}"\n').rules
    match = rules.find(f"inbox/{segment}/1")
    assert match is not None
    assert match.captures == {"to": segment}
    assert rules.find(f"inbox/{segment}/2/1") is None


# Random rules: the report of what becomes wider is complete


def may(rules: Rules, person: Person, operation: Operation, event: str, state: frozenset[str]) -> bool:
    match = rules.find(event)
    if operation == "cancel" and match is not None and "cancel" not in match.rule.rights:
        return False  # whoever has inserted it: nobody of these
    return rules.allows(operation, event, person, state.__contains__)


@settings(deadline=None)
@given(random_rules(), random_rules(), st.frozensets(st.sampled_from(["m/a", "m/ada", "m/bob"])))
def test_nothing_becomes_wider_without_being_reported(old: str, new: str, state: frozenset[str]) -> None:
    before, after = parse_file(old).rules, parse_file(new).rules
    reported = {(each.names, each.operation) for each in widenings(before, after)}
    for operation, event, person in product(OPERATIONS, NAMES, PERSONS):
        if may(after, person, operation, event, state) and not may(before, person, operation, event, state):
            assert any(shown_operation == operation and covers(shown, event) for shown, shown_operation in reported), (
                f"{person} may {operation} {event}"
            )


def covers(shown: str, event: str) -> bool:
    pattern = Pattern(tuple(shown.split("/")))
    segments = event.split("/")
    if pattern.segments[-1] == REST:
        rest = len(pattern.segments) - 1
        return len(segments) > rest and covers_all(pattern.segments[:-1], segments[:rest])
    return len(pattern.segments) == len(segments) and covers_all(pattern.segments, segments)


def covers_all(segments: tuple[str, ...], names: list[str]) -> bool:
    return all(is_capture(segment) or segment == name for segment, name in zip(segments, names, strict=True))


@given(random_rules())
def test_the_same_rules_are_not_wider(text: str) -> None:
    assert widenings(parse_file(text).rules, parse_file(text).rules) == []


@pytest.mark.parametrize(
    ("old", "new", "report"),
    [
        ("", 'read = "user"', "score/*: read by user (before: nobody)"),
        ('read = "user"', 'read = "public"', "score/*: read by public (before: user)"),
        ('read = "public"', 'read = "user"', None),
        ('read = ["@r"]', 'read = ["@r", "user"]', "score/*: read by @r, user (before: @r)"),
        ('read = "user and if m"', 'read = "user"', "score/*: read by user (before: if m and user)"),
        ('read = "user"', 'read = "user and if m"', None),
        ('insert = "user"\nmax_bytes = 5', 'insert = "user"\nmax_bytes = 6', "score/*: insert by user, max_bytes 6"),
        ('insert = "user"\nrate = "5/minute"', 'insert = "user"', "score/*: insert by user (before: user, 5/minute)"),
        ('insert = "user"\nrate = "5/minute"', 'insert = "user"\nrate = "4/minute"', None),
        ('insert = "user"\nrate = "5/minute"', 'insert = "user"\nrate = "5/hour"', "score/*: insert by user, 5/hour"),
        ('insert = "user"\nonce = true', 'insert = "user"', "score/*: insert by user (before: user, once)"),
        ('read = "public"', 'read = "public"\nauthor = "public"', "score/*: read by public, with the author"),
        ('insert = "user"\nremove = "nobody"', 'insert = "user"', "score/*: remove by user (before: nobody)"),
        ('insert = "user"', 'insert = "user"\ncancel = "user"', "score/*: cancel by user (before: who inserted it)"),
        ('insert = "user"\ncancel = "user"', 'insert = "user"', None),
    ],
)
def test_what_becomes_wider(old: str, new: str, report: str | None) -> None:
    head = 'roles = ["r"]\n[[event]]\nname = "x"\nread = "@r"\n[[event]]\nname = "score/*"\n'
    found = [str(each) for each in widenings(parse_file(head + old).rules, parse_file(head + new).rules)]
    assert bool(found) is (report is not None), found
    if report is not None:
        assert any(each.startswith(report) for each in found), found


# The file


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as error:
        parse_file(text)
    return str(error.value)


EVENT = '# rules\n[[event]]\nname = "a/{x}"\nread = "{x}"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[event]]\nname = \n", "line 2"),
        ("rolls = []", 'line 1: "rolls" has no meaning here; did you mean "roles"?'),
        ('[[event]]\nread = "user"', "line 1: each table [[event]] needs a name"),
        (EVENT + 'raed = "user"', 'line 5: "raed" has no meaning here; did you mean "read"?'),
        (EVENT + 'write = "user"', 'line 5: "write" has no meaning here; did you mean "insert"?'),
        (EVENT + 'roles = ["a"]', 'line 5: "roles" is for the whole file; write it above the first table'),
        (EVENT + 'insert = "user or {x}"', 'line 5: insert: "user or {x}": for one or the other, write a list'),
        (EVENT + 'history = "90d"', 'line 5: "history" is not known yet'),
        (EVENT + "insert = 5", "line 5: insert: expected"),
        (EVENT + 'insert = "{y}"', 'line 5: insert: "{y}" is not a segment of the name'),
        (EVENT + 'insert = "{me}"', 'line 5: insert: "{me}" stands only in "if NAME"'),
        (EVENT + 'insert = "@boss"', 'line 5: insert: "@boss" is not one of the roles'),
        (EVENT + 'insert = "@admin"', 'line 5: insert: "@admin" may do everything already'),
        (EVENT + 'insert = "everybody"', 'line 5: insert: "everybody" is no one: write "nobody", "public"'),
        (EVENT + 'insert = ["user", "nobody"]', 'line 5: insert: "nobody" stands alone'),
        (EVENT + 'insert = "user and nobody"', 'line 5: insert: "nobody" stands alone'),
        (EVENT + 'insert = "if a/*"', 'line 5: insert: "if a/*": a name has no *'),
        (EVENT + 'insert = "if a/x{x}"', 'line 5: insert: "if a/x{x}": {x} is a whole segment'),
        (EVENT + 'insert = "if $rules"', 'line 5: insert: "if $rules": names that start with $'),
        (EVENT + 'insert = "public"', "line 5: insert: strangers may do this, so the rule also needs limits"),
        (EVENT + 'insert = "if b/{x}"', "line 5: insert: strangers may do this, so the rule also needs limits"),
        (EVENT + 'log = "public"', "line 5: log: a stranger cannot do this"),
        (EVENT + 'rate = "often"', "line 5: rate: expected a rate"),
        (EVENT + "max_bytes = 0", "line 5: max_bytes: expected"),
        (EVENT + "once = 1", "line 5: once: expected true or false"),
        (EVENT + 'author = "all"', 'line 5: author: expected "public"'),
        (EVENT + '\n[[event]]\nname = "a/{z}"\nread = "{z}"', 'line 7: name: "a/{z}" matches the same names as line 3'),
        ('[[event]]\nname = "a/{x}"', "line 2: name: nothing uses {x}"),
        ('[[event]]\nname = "a/{x}"\nread = "if m/(x)"', "line 2: name: nothing uses {x}"),
        ('[[event]]\nname = "a/{x}/{x}"', 'line 2: name: "a/{x}/{x}": a capture occurs twice'),
        ('[[event]]\nname = "ord*"', 'line 2: name: "ord*": * is a whole segment, as in orders/*'),
        ('[[event]]\nname = "*x"', 'line 2: name: "*x": * is a whole segment'),
        ('[[event]]\nname = "a/*/b"', 'line 2: name: "a/*/b": * is the last segment'),
        ('[[event]]\nname = "$user/*"', "line 2: name: "),
        ('[[event]]\nname = "a/../b"', "line 2: name: "),
        ('[[event]]\nname = "a/x{b}"', 'line 2: name: "a/x{b}": "x{b}" is no segment'),
        (
            '[[event]]\nname = "*"\nread = "user"',
            "line 3: read: this is for events of any name that no other rule is about",
        ),
        ('[[event]]\nname = "*"\nread = "user and if a"', "line 3: read: this is for events of any name"),
        ('[[event]]\nname = "{_}/*"\nread = "public"', "line 3: read: this is for events of any name"),
        (EVENT + 'cancel = "if b"', "line 5: cancel: a stranger cannot do this"),
        ('roles = ["x"]', 'line 1: no rule names the role "@x"'),
        ('roles = ["admin"]', 'line 1: roles: "admin" is there already'),
        ('roles = ["A B"]', 'line 1: roles: "A B" is no name of a role'),
        ("roles = 5", "line 1: roles: expected a list"),
        ("event = 5", "line 1: write each event as a table"),
        (EVENT + '[[expect]]\nwho = "ada"', "line 6: write one line can"),
        (EVENT + '[[expect]]\nwho = "a b"\ncan = "read a/b"', "line 6: who: expected the name of one user"),
        (EVENT + '[[expect]]\nwho = "user"\ncan = "read a/b"', "line 6: who: expected the name of one user"),
        (EVENT + '[[expect]]\nwho = "@boss"\ncan = "read a/b"', 'line 6: who: "@boss" is a role; write who = "bob"'),
        (EVENT + '[[expect]]\nwho = "ada"\ngiven = ["x"]\ncan = "read a/b"', "line 7: given: no rule has a condition"),
        (EVENT + '[[expect]]\nwho = "ada"\ncan = "do a/b"', "line 7: can: expected one of read, insert"),
        (EVENT + '[[expect]]\nwho = "ada"\ncan = "read *"', "line 7: can: name one event, such as orders/1"),
        (EVENT + '[[expect]]\nwho = "ada"\nroles = ["boss"]\ncan = "read a/b"', 'line 7: roles: "boss" is not one'),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, sentence: str) -> None:
    assert sentence in refusal(text)


def test_tables_on_one_line_are_refused_with_their_line_too() -> None:
    text = 'event = [\n  {name = "a", read = "user"},\n  {name = "b/{x}", read = "user"},\n]\n'
    assert refusal(text).startswith("line 3: name: nothing uses {x}")


@given(st.integers(0, len(ROOM) - 1), st.characters(min_codepoint=32, max_codepoint=126), st.booleans())
def test_a_file_with_another_character_is_refused_with_a_line_or_compared(at: int, character: str, cut: bool) -> None:
    text = ROOM[:at] + ("" if cut else character) + ROOM[at + 1 :]
    refused, changed = "", Rules()
    try:
        changed = parse_file(text).rules
    except BadRequest as error:
        refused = str(error)
    assert not refused or "line " in refused
    widenings(parse_file(ROOM).rules, changed)


def expectations(*lines: str) -> RulesFile:
    return parse_file(ROOM + "".join(f"[[expect]]\n{line}\n" for line in lines))


def test_expectations_are_tried_on_the_rules() -> None:
    right = expectations(
        'who = "ada"\ncan = "insert room/ada/7/member/bob"',
        'who = "public"\ncannot = "read room/ada/7/member/bob"',
        'who = "bob"\ngiven = ["room/ada/7/member/bob"]\ncan = "read room/ada/7/message/ada/1"',
        'who = "mo"\nroles = ["moderator"]\ncan = "log room/ada/7/message/ada/1"',
    )
    assert right.failed() == []
    wrong = expectations('who = "public"\ncan = "read room/ada/7/member/bob"')
    assert [f"line {each.line}: {each}" for each in wrong.failed()] == [
        "line 19: a stranger can read room/ada/7/member/bob"
    ]
