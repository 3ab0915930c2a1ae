"""Who may read what, as of the relay's position, and which streams a record concerns because it changes rights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from broker.live.forms import NameForm, can_match
from broker.live.frames import Authors, Frame
from broker.live.members import Members
from broker.live.read_keys import Reading, ReadKeys
from broker.live.reader import ClassTerms, ReaderClass, is_of_class
from broker.live.snapshot import Snapshot
from broker.names import RULES_EVENT, USER_EVENT, Filter
from broker.rules.rights import Rights, Version, is_rights_event
from broker.rules.rules import REST, Match, Operation, Rule, Rules
from broker.rules.who import ADMIN, If, InRole, Named, Person
from broker.users import Actor


class Audience(NamedTuple):
    """Who may read one frame, besides those who may read everything."""

    classes: tuple[ClassTerms, ...]  # every reader that fits one of them
    persons: tuple[tuple[ClassTerms, Collection[str]], ...]  # the users with one of these names, if they fit


NO_AUDIENCE = Audience((), ())


class Change(NamedTuple):
    """Which streams a record concerns, because it changes rights.

    A condition of a rule (``if``) decides on the events of certain forms. If the snapshot has no event of a form, there
    is nothing that a stream would have to forget, and nothing that it lacks: whatever is published from now on is
    judged by the new rights, and it comes after the change also for a client that resumes from before it. The snapshot
    has removed events, too, because a client that has not come to the removal may hold the event, and would not be
    shown the removal any more. Only removals up to ``removals_floor`` are forgotten. So a form of which there is no
    event still concerns whoever is further back than that."""

    username: str | None = None  # only streams of this user; None: of everybody
    user_id: str | None = None  # only streams of this user; None: of everybody
    # Only streams that can show an event of one of these forms (``Pattern.form``); None: all of them.
    forms: tuple[NameForm, ...] | None = None
    condition: bool = False  # whether only a condition has changed; then nobody's class and nobody's token has
    unused: tuple[NameForm, ...] = ()  # forms of which there is no event
    floor: int = 0  # they concern streams whose position is lower

    def concerns(self, filter: Filter, position: int) -> bool:
        """Whether the change concerns a stream with this filter that has come to this position."""
        if self.forms is None:
            return True
        forms = self.forms + self.unused if position < self.floor else self.forms
        return any(filter.everything or can_match(filter, form) for form in forms)


class Access:
    """Answers by the rules, by the states of the users, and by which events have state. All of it is as of the relay's
    position, and the relay calls ``start`` and ``advance``.

    Mutable state: the rights; the members of everything that rules ask about with ``if``; and the positions at which
    the rights of readers have changed last."""

    def __init__(self, rights: Rights) -> None:
        self.rights = rights
        self._snapshot = Snapshot()
        self._members = Members(())
        self._read_keys = ReadKeys(Rules())
        self._read_roles: frozenset[str] = frozenset()  # those that some rule about reading names
        self._authors = False  # whether some rule shows strangers who has inserted a record
        self._open: dict[ReaderClass, bool] = {}  # whether the rules hide nothing from a class, where that is known
        self._conditions_at = 0  # the position at which a condition has changed for anybody
        self._rules_at = 0  # the position at which something changed for everybody
        self._user_at: dict[str, int] = {}  # by the user's id: the position at which the user's roles changed

    # The relay's part

    def start(self, epoch: str, snapshot: Snapshot, reserved: Iterable[Frame]) -> None:
        """Takes over the state of the log. The snapshot changes with each record. ``reserved`` has the latest records
        of Broker's own events, in position order."""
        self._snapshot = snapshot
        self.rights.rules, self.rights.broken = None, ""
        self.rights.users.clear()
        self._rules_at, self._conditions_at, self._user_at = 0, 0, {}
        version = Version(epoch, 0)
        for frame in reserved:
            if is_rights_event(frame.event):
                version = Version(epoch, frame.position)
                self.rights.apply(frame.event, frame.data, version)
                self._note(frame)
        self.rights.version = version
        self._rules_changed()

    def is_change(self, frame: Frame, before: Frame | None) -> bool:
        """Whether a record changes rights. ``before`` is the latest record of its event until now. If it does, the hub
        writes all earlier frames, before ``advance`` is called."""
        if frame.reserved:
            return is_rights_event(frame.event)
        if not self._members.asked or _holds(before) == _holds(frame):
            return False
        return bool(self._members.asking_about(frame.event))

    def advance(self, frame: Frame) -> Change:
        """Takes a record into account that changes rights. It is in the snapshot already. Returns which streams it
        concerns."""
        if frame.reserved:
            return self._advance_rights(frame)
        asked, holds, snapshot = self._members.asking_about(frame.event), _holds(frame), self._snapshot
        forms = tuple(dict.fromkeys(each.form for each in asked))
        # Where the record gives a right, its own event is no reason to start again: whoever has the right from now on
        # receives this record, which replaces every earlier one.
        used = tuple(form for form in forms if snapshot.may_have(form, but=frame.event if holds else ""))
        floor = snapshot.removals_floor
        # A client with an older id starts with the state as it is now: see ``changed_at``.
        since = frame.position if used else floor
        username = self._members.put(asked, holds=holds, position=since)
        if username is None:
            self._rules_at = max(self._rules_at, since)
        self._conditions_at = frame.position
        return Change(username, None, used, True, tuple(form for form in forms if form not in used), floor)

    def _advance_rights(self, frame: Frame) -> Change:
        rights = self.rights
        version = Version(frame.epoch, frame.position)
        if frame.event == RULES_EVENT:
            before = rights.rules
            rights.apply(frame.event, frame.data, version)
            self._rules_changed()
            forms = None if rights.broken else _changed_forms(before, rights.rules)
            if forms is None or forms:
                self._rules_at = frame.position
            return Change(forms=forms)
        user_id = frame.event.removeprefix(USER_EVENT)
        old = rights.state(user_id)
        rights.apply(frame.event, frame.data, version)
        if set(old.roles) == set(rights.state(user_id).roles) or rights.rules is None:
            return Change(user_id=user_id, forms=())
        self._note(frame)
        return Change(user_id=user_id)

    def _note(self, frame: Frame) -> None:
        if frame.event == RULES_EVENT:
            self._rules_at = frame.position
        else:
            self._user_at[frame.event.removeprefix(USER_EVENT)] = frame.position

    def _rules_changed(self) -> None:
        rules = self.rights.rules
        terms = [] if rules is None else [(rule, term) for rule in rules.rules for term in rule.who("read").terms]
        self._read_roles = frozenset(term.role for _, term in terms if isinstance(term, InRole))
        self._read_keys = ReadKeys(rules or Rules())
        self._open = {}
        self._authors = rules is not None and any(rule.author_public for rule in rules.rules)
        self._members = Members([(rule.pattern.segments, term) for rule, term in terms if isinstance(term, If)])
        if self._members.asked:
            # What was removed up to there is forgotten. A removal may have ended somebody's rights.
            self._rules_at = max(self._rules_at, self._snapshot.removals_floor)
            self._conditions_at = max(self._conditions_at, self._snapshot.removals_floor)
            for name, frame in self._snapshot.latest.items():
                if asked := self._members.asking_about(name):
                    self._conditions_at = max(self._conditions_at, frame.position)
                    if self._members.put(asked, holds=_holds(frame), position=frame.position) is None:
                        self._rules_at = max(self._rules_at, frame.position)

    # Answers

    def exists(self, event: str) -> bool:
        """Whether an event has state, and is not ``false``. This is what ``if`` in a rule asks."""
        return _holds(self._snapshot.latest.get(event))

    def person(self, actor: Actor) -> Person:
        return self.rights.person(actor)

    def allows(self, operation: Operation, event: str, actor: Actor) -> bool:
        """Whether the actor has this right now. Without rules, everybody has every right. Only administrators have
        rights to Broker's own events. Raises Unavailable."""
        self.rights.check()
        rules, person = self.rights.rules, self.person(actor)
        if event[0] == "$":
            return ADMIN in person.roles
        return rules is None or rules.allows(operation, event, person, self.exists)

    def reading(self, actor: Actor) -> Reading | None:
        """Returns what this reader may read, by the rights as of this call. Returns None if the reader may read
        everything, now and whatever is inserted later, as long as the rights stay as they are."""
        if self.class_of(actor) is None:
            return None
        return Reading(self._read_keys, self.person(actor), self.exists)

    def class_of(self, actor: Actor) -> ReaderClass | None:
        """Returns the class of a reader, or None if the reader may read everything."""
        rules = self.rights.rules
        if rules is None:
            return None
        name, roles = self.person(actor)
        if ADMIN in roles:
            return None
        readers = ReaderClass(name is not None, roles & self._read_roles)
        # It is asked for every stream when the rules change, and there may be many rules, but there are few classes.
        if (sees_everything := self._open.get(readers)) is None:
            sees_everything = self._open[readers] = _sees_everything(rules, readers)
        return None if sees_everything else readers

    def view_of(self, actor: Actor) -> tuple[object, ...]:
        """Returns what a response depends on besides the state, because of the rights of its reader. It is empty
        without rules. A state of the past is shown by the rights of today, so the positions at which rights have
        changed are a part of it, also if there is no event now whose reading that changes."""
        rules = self.rights.rules
        if rules is None:
            return ()
        version = self.rights.version.position
        return actor.username, sorted(self.person(actor).roles), version, self.changed_at(actor), self._conditions_at

    def shows_author(self) -> Authors | None:
        """Returns a function that says whether strangers see who has inserted the records of an event, or None if they
        never do."""
        return self._shows_author if self._authors else None

    def _shows_author(self, event: str) -> bool:
        match = None if self.rights.rules is None else self.rights.rules.find(event)
        return match is not None and match.rule.author_public

    def denied(self, filter: Filter, actor: Actor) -> list[str]:
        """Returns the exact names of a filter that the reader may not read now, in order."""
        reading = self.reading(actor)
        return [] if reading is None else sorted(name for name in filter.names if not reading(name))

    def changed_at(self, actor: Actor) -> int:
        """Returns a position; what the reader may read has not changed since. A client with an older id starts with the
        state as it is now."""
        return max(self._rules_at, self._user_at.get(actor.user_id, 0), self._members.changed_at(actor.username))

    def audience(self, event: str) -> Audience:
        """Returns who may read an event, as of now."""
        rules = self.rights.rules
        match = None if rules is None else rules.find(event)
        if match is None:
            return NO_AUDIENCE
        classes: list[ClassTerms] = []
        persons: list[tuple[ClassTerms, Collection[str]]] = []
        for terms in match.rule.who("read").alternatives:
            named = {match.captures[term.capture] for term in terms if isinstance(term, Named)}
            ifs = [term for term in terms if isinstance(term, If)]
            if len(named) > 1 or not all(self.exists(_name(each, match)) for each in ifs if not each.about_me):
                continue
            lists: list[Collection[str]] = [named] if named else []
            lists += [self._members.of(each.segments, match.captures) for each in ifs if each.about_me]
            if not lists:
                classes.append(ClassTerms.of(terms))
                continue
            fewest = min(lists, key=len)
            if len(lists) > 1:
                fewest = {name for name in fewest if all(name in each for each in lists)}
            if fewest:
                persons.append((ClassTerms.of(terms), fewest))
        return Audience(tuple(classes), tuple(persons))


def _name(term: If, match: Match) -> str:
    return term.name("", match.captures) or ""


def _holds(frame: Frame | None) -> bool:
    return frame is not None and not frame.removal and not frame.is_false


def _sees_everything(rules: Rules, readers: ReaderClass) -> bool:
    return any(rule.pattern.segments == (REST,) for rule in rules.rules) and all(
        _open_to(rule, readers) for rule in rules.rules
    )


def _open_to(rule: Rule, readers: ReaderClass) -> bool:
    return any(
        all(map(is_of_class, terms)) and ClassTerms.of(terms).fit(readers) for terms in rule.who("read").alternatives
    )


def _changed_forms(old: Rules | None, new: Rules | None) -> tuple[tuple[str, ...], ...] | None:
    """Returns the forms of the patterns that match all names on whose reading the two decide differently. Returns None
    if it may be any name."""
    if old is None or new is None:
        return None
    one, other = _reads(old), _reads(new)
    return tuple(form for form in one.keys() | other.keys() if one.get(form) != other.get(form))


def _reads(rules: Rules) -> dict[tuple[str, ...], object]:
    return {rule.pattern.form: (rule.pattern.segments, rule.who("read"), rule.author_public) for rule in rules.rules}
