"""Who may read what: the audience of an event, the classes of readers, and which streams a record concerns."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.live.access import Access, Change
from broker.live.forms import beginning, can_match, matches
from broker.live.frames import Frame
from broker.live.reader import ReaderClass
from broker.live.snapshot import Snapshot
from broker.names import RULES_EVENT, USER_EVENT, Filter
from broker.rules.rights import Rights, encode_rules
from broker.rules.rules import Pattern, Rule, Rules
from broker.rules.who import Person
from broker.users import STRANGER_ACTOR, Actor
from tests.support.frames import frame_of
from tests.support.rules import NAMES, PERSONS, random_rules

ADA, BOB = Actor("1", "ada"), Actor("2", "bob")
ROOM = """
[[event]]
name = "room/{room}/member/{_}"
read = "if room/{room}/member/{me}"

[[event]]
name = "room/{room}/message/{from}/*"
read = ["{from}", "if room/{room}/member/{me}"]

[[event]]
name = "news/*"
read = "if news-are-open"
"""


class Log:
    """The relay's part: it numbers records, and passes them to the snapshot and to ``Access``."""

    def __init__(self, toml: str = "", snapshot: Snapshot | None = None) -> None:
        self.snapshot = Snapshot() if snapshot is None else snapshot
        self.access = Access(Rights())
        self.access.start("0a1b2c3d", self.snapshot, [])
        self.frames: list[Frame] = []
        self._positions = count(1)
        if toml:
            self.put(RULES_EVENT, encode_rules(toml))
            assert not self.access.rights.broken

    def put(self, event: str, data: bytes = b"1") -> Change | None:
        frame = frame_of(next(self._positions), event, data)
        self.frames.append(frame)
        changes = self.access.is_change(frame, self.snapshot.latest.get(event))
        self.snapshot.put(frame)
        return self.access.advance(frame) if changes else None

    def restarted(self) -> Access:
        latest = {frame.event: frame for frame in self.frames}
        frames = sorted(latest.values(), key=lambda frame: frame.position)
        access = Access(Rights())
        access.start("0a1b2c3d", Snapshot(frames), [frame for frame in frames if frame.reserved])
        return access


def receives(access: Access, event: str, person: Person, actor: Actor) -> bool:
    """Whether the hub would deliver the event to a stream of this person."""
    readers = access.class_of(actor)
    if readers is None:
        return True
    audience = access.audience(event)
    return any(terms.fit(readers) for terms in audience.classes) or any(
        terms.fit(readers) and person.username in names for terms, names in audience.persons
    )


@settings(deadline=None)
@given(
    random_rules(),
    st.lists(
        st.tuples(st.sampled_from(["m/a", "m/ada", "m/bob", *NAMES[:6]]), st.sampled_from([b"1", b"false", b"null"]))
    ),
)
def test_the_audience_of_an_event_is_exactly_who_may_read_it(toml: str, history: list[tuple[str, bytes]]) -> None:
    log = Log(toml)
    actors = []
    for number, person in enumerate(PERSONS):
        actors.append(Actor(str(number), person.username) if person.username else STRANGER_ACTOR)
        if person.username:
            roles = ",".join(f'"{role}"' for role in sorted(person.roles))
            log.put(f"{USER_EVENT}{number}", f'{{"roles":[{roles}]}}'.encode())
    for event, data in history:
        log.put(event, data)
    state = {name for name, frame in log.snapshot.latest.items() if frame.data not in (b"null", b"false")}
    rules = log.access.rights.rules
    assert rules is not None
    for access in (log.access, log.restarted()):
        for person, actor in zip(PERSONS, actors, strict=True):
            for event in NAMES:
                may = rules.allows("read", event, person, state.__contains__)
                reading = access.reading(actor)
                assert (reading is None or reading(event)) == may
                assert receives(access, event, person, actor) == may


def test_without_rules_everybody_sees_everything() -> None:
    access = Log().access
    assert access.class_of(STRANGER_ACTOR) is None
    assert access.reading(ADA) is None


def test_rules_that_restrict_nobody_make_one_class_of_all() -> None:
    access = Log('[[event]]\nname = "*"\nread = "public"\nopen = true\n').access
    assert access.class_of(STRANGER_ACTOR) is None


def test_only_roles_that_a_rule_about_reading_names_make_classes() -> None:
    log = Log('roles = ["r", "s"]\n[[event]]\nname = "a"\nread = "@r"\ninsert = "@s"\n')
    log.put(f"{USER_EVENT}1", b'{"roles":["r","s"]}')
    assert log.access.class_of(ADA) == ReaderClass(True, frozenset({"r"}))


def test_an_administrator_sees_everything() -> None:
    log = Log('[[event]]\nname = "a"\n')
    log.put(f"{USER_EVENT}1", b'{"roles":["admin"]}')
    assert log.access.class_of(ADA) is None
    assert log.access.class_of(BOB) is not None


class TestAChange:
    def test_a_membership_concerns_only_that_user_and_that_room(self) -> None:
        log = Log(ROOM)
        log.put("room/7/message/bob/1")
        change = log.put("room/7/member/ada")
        unused = (("room", "7", "member", "{_}"),)
        assert change == Change("ada", None, (("room", "7", "message", "{_}", "*"),), condition=True, unused=unused)
        assert change.concerns(Filter.parse(["room/7/*"], 9), 2)
        assert change.concerns(Filter(), 2)
        assert not change.concerns(Filter.parse(["room/8/*", "news*", "room/7/other/x"], 9), 2)

    @pytest.mark.parametrize("event", ["room/8/message/bob/1", "room/7/message/bob", "room/7", "room/7/member/ada/x"])
    def test_a_membership_of_a_room_without_events_concerns_nobody(self, event: str) -> None:
        log = Log(ROOM)
        log.put(event)
        change = log.put("room/7/member/ada")
        assert change is not None
        assert not change.concerns(Filter(), 0)
        assert log.access.changed_at(ADA) == 1

    def test_its_end_concerns_whoever_could_read_the_membership_itself(self) -> None:
        log = Log(ROOM)
        log.put("room/7/member/ada")
        change = log.put("room/7/member/ada", b"null")
        assert change is not None
        assert change.concerns(Filter(), 2)
        assert not change.concerns(Filter.parse(["room/7/message/*"], 9), 2)
        assert log.access.changed_at(ADA) == 3

    def test_a_removed_message_counts_because_a_client_may_not_have_come_to_its_removal(self) -> None:
        log = Log(ROOM)
        log.put("room/7/member/ada")
        log.put("room/7/message/bob/1")
        log.put("room/7/message/bob/1", b"null")
        change = log.put("room/7/member/ada", b"false")
        assert change is not None
        assert change.concerns(Filter.parse(["room/7/message/*"], 9), 2)

    def test_a_message_whose_removal_is_forgotten_counts_for_whoever_has_not_come_to_the_removal(self) -> None:
        log = Log(ROOM, Snapshot(removals_max=0))
        log.put("room/7/member/ada")
        log.put("room/7/message/bob/1")
        log.put("room/7/message/bob/1", b"null")
        log.put("news/1")
        change = log.put("room/7/member/ada", b"false")
        assert change is not None
        filter = Filter.parse(["room/7/message/*"], 9)
        assert change.concerns(filter, 3)
        assert not change.concerns(filter, 4)
        assert log.access.changed_at(ADA) == 6, "the membership itself could be read"

    def test_the_answers_about_the_past_depend_on_every_change(self) -> None:
        log = Log(ROOM)
        before = log.access.view_of(ADA)
        log.put("room/7/member/ada")
        assert log.access.view_of(ADA) != before

    @pytest.mark.parametrize("data", [b"null", b"false"])
    def test_the_end_of_a_membership_is_one_and_another_version_of_it_is_none(self, data: bytes) -> None:
        log = Log(ROOM)
        log.put("room/7/member/ada", b"1")
        assert log.put("room/7/member/ada", b"2") is None
        assert log.put("room/7/member/ada", data) is not None
        assert log.put("room/7/member/ada", b"false") is None

    def test_a_condition_about_nobody_concerns_everybody(self) -> None:
        log = Log(ROOM)
        log.put("news/1")
        change = log.put("news-are-open")
        assert change is not None
        assert change.username is None
        assert change.forms == (("news", "*"),)

    def test_other_events_are_none(self) -> None:
        log = Log(ROOM)
        assert log.put("room/7/message/ada/1") is None
        assert log.put("news/1") is None

    def test_rules_that_change_only_who_inserts_concern_no_stream(self) -> None:
        log = Log('[[event]]\nname = "a/*"\nread = "user"\n')
        change = log.put(RULES_EVENT, encode_rules('[[event]]\nname = "a/*"\nread = "user"\ninsert = "user"\n'))
        assert change is not None
        assert not change.concerns(Filter(), 0)

    def test_rules_concern_the_streams_that_can_show_what_they_change(self) -> None:
        log = Log('[[event]]\nname = "a/*"\nread = "user"\n[[event]]\nname = "b/*"\nread = "user"\n')
        change = log.put(RULES_EVENT, encode_rules('[[event]]\nname = "a/*"\nread = "user"\n'))
        assert change is not None
        assert change.concerns(Filter.parse(["b*"], 9), 0)
        assert not change.concerns(Filter.parse(["a/*"], 9), 0)

    def test_rules_that_cannot_be_read_open_nothing(self) -> None:
        log = Log(ROOM)
        log.put(RULES_EVENT, b'{"format":99,"toml":""}')
        assert log.access.rights.broken
        assert log.access.class_of(ADA) is not None
        assert not receives(log.access, "news/1", Person("ada"), ADA)


@given(
    st.lists(st.sampled_from(["a", "b", "{_}"]), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(NAMES),
    st.integers(0, 8),
)
def test_a_filter_that_matches_a_name_of_a_pattern_can_match_the_pattern(
    segments: list[str], rest: bool, name: str, end: int
) -> None:
    pattern = Pattern((*segments, *(["*"] if rest else [])))
    if Rules((Rule(pattern, {}),)).find(name) is not None:
        assert can_match(Filter(names=frozenset({name})), pattern.form)
        assert can_match(Filter(prefixes=(name[:end],)), pattern.form)


@given(st.lists(st.sampled_from(["a", "b", "{_}"]), min_size=1, max_size=3), st.booleans(), st.sampled_from(NAMES))
def test_a_name_has_the_form_of_the_pattern_that_matches_it(segments: list[str], rest: bool, name: str) -> None:
    pattern = Pattern((*segments, *(["*"] if rest else [])))
    assert matches(pattern.form, name) == (Rules((Rule(pattern, {}),)).find(name) is not None)
    assert not matches(pattern.form, name) or name.startswith(beginning(pattern.form))


def test_the_rights_of_a_reader_have_changed_where_they_did() -> None:
    log = Log(ROOM)
    log.put("room/7/message/bob/1")
    log.put("news/1")
    assert log.access.changed_at(ADA) == 1
    log.put("room/7/member/ada")
    assert (log.access.changed_at(ADA), log.access.changed_at(BOB)) == (4, 1)
    log.put(f"{USER_EVENT}2", b'{"roles":["admin"]}')
    assert (log.access.changed_at(ADA), log.access.changed_at(BOB)) == (4, 5)
    log.put("news-are-open")
    for access in (log.access, log.restarted()):
        assert (access.changed_at(ADA), access.changed_at(BOB)) == (6, 6)


def test_what_a_forgotten_removal_has_ended_counts_as_changed_for_everybody() -> None:
    log = Log(ROOM)
    log.put("room/7/member/ada")
    log.put("room/7/member/ada", b"null")
    log.put("something/else")
    known = [log.frames[0], log.frames[3]]
    access = Access(Rights())
    access.start("0a1b2c3d", Snapshot(known, removals_floor=3), known[:1])
    assert access.changed_at(ADA) == 3
