"""Judges within a write transaction who may do what, by the rights as they are in the store at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

from broker.errors import BadRequest, Conflict, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable
from broker.names import RULES_EVENT, USER_EVENT
from broker.records import REMOVAL, NewRecord, Record
from broker.rules.rights import Rights, Version, person, read_rules, read_state, refuse
from broker.rules.rules import Operation, Rules
from broker.rules.who import ADMIN, Person
from broker.store.event_rows import EventRow, EventRows
from broker.store.tables import Tables
from broker.users import DEFAULT_STATE, Actor, UserState, username_key

_INVALID = "the token or the API key is not valid any more; log in again"


# The newest rules, or None if there are none; and why they cannot be used, or "" if they can.
_Newest = tuple[Rules | None, str]


class KnownRules:
    """The rules that were read from the store last, because the node's relay was not as far as the store.

    Mutable state: these rules, and their position. It belongs to the writer's thread."""

    def __init__(self) -> None:
        self.version: Version | None = None
        self.newest: _Newest = None, ""


class Judge:
    """The node's view of the rights counts if it has the version that is in the store. Otherwise the rights are read
    from the store. What the transaction itself publishes counts for everything that comes after it.

    Mutable state: what was read, and what this transaction has published."""

    def __init__(
        self,
        tables: Tables,
        rows: EventRows,
        version: Version,
        rights: Rights,
        known: KnownRules,
        *,
        rules_over_http: bool,
    ) -> None:
        """``version`` is what the store has, and ``rights`` is the node's view. ``rules_over_http``: see the setting of
        this name."""
        self._rules_over_http = rules_over_http
        self._tables = tables
        self._rows = rows
        self._version = version
        self._rights = rights
        self._known = known
        self._current = rights.version == version
        # What was read, or learned from what this transaction has published
        self._newest: _Newest | None = None
        self._states: dict[str, UserState] = {}
        self._by_name: dict[str, UserState] = {}  # the states of users, by the keys of their names
        # Whether anything needs to be judged. In a log without rules, in which no user was ever disabled or logged out,
        # nothing does.
        self.active = version.position > 0

    def learn(self, event: str, data: bytes) -> None:
        """Takes a record into account that the transaction publishes, and that changes rights."""
        self.active = True
        if event == RULES_EVENT:
            self._newest = _parse(data)
        elif event.startswith(USER_EVENT):
            self._states[event.removeprefix(USER_EVENT)] = read_state(data)
            self._by_name = {}  # they are read again

    # What the rights are

    @property
    def broken(self) -> str:
        """Why the newest rules cannot be used; "" if they can."""
        return self._read_rules()[1]

    @property
    def holds_due(self) -> bool:
        """Whether nothing that is due may be published, because nobody can say by which rights."""
        return bool(self._rights.unconfirmed or (self.active and self.broken))

    @property
    def rules(self) -> Rules | None:
        """Raises Unavailable if the newest rules cannot be used."""
        rules, broken = self._newest or self._read_rules()
        if broken:
            raise Unavailable(f"this version of Broker cannot use the rules of this log ({broken})")
        return rules

    def _read_rules(self) -> _Newest:
        if self._newest is None:
            if self._current:
                self._newest = self._rights.rules, self._rights.broken
            else:
                row = next(iter(self._tables.events([RULES_EVENT])), None)
                position = None if row is None else row[1]
                self._newest = (None, "") if position is None else self._read_rules_at(position)
        return self._newest

    def _read_rules_at(self, position: int) -> _Newest:
        version = Version(self._version.epoch, position)
        if self._known.version != version:
            record = self._tables.record_at(position)
            assert record is not None
            self._known.version, self._known.newest = version, _parse(record.data)
        return self._known.newest

    def state(self, user_id: str) -> UserState:
        if not user_id:
            return DEFAULT_STATE
        known = self._states.get(user_id)
        if known is None:
            if self._current:
                return self._rights.state(user_id)
            found = next(iter(self._tables.users([user_id])), None)
            # A user that is not there, because a fail-over has lost the sign-up, has no rights.
            known = self._states[user_id] = UserState(disabled=True) if found is None else found.state
        return known

    def exists(self, event: str) -> bool:
        """Whether an event has state, and is not ``false``, in the middle of this transaction."""
        self._rows.load([event])
        row = self._rows.get(event)
        return row is not None and row.has_state and not row.falsy

    # What comes from a client

    def person(self, actor: Actor) -> Person:
        """Returns the person who asks. Raises Unauthorized if the token is not valid any more."""
        state = self.state(actor.user_id)
        if not actor.is_valid(state):
            raise Unauthorized(_INVALID)
        return person(actor, state)

    def conditions(self, items: Iterable[NewRecord], actor: Actor) -> set[str]:
        """Returns the names of the events on whose state the rights of these inserts depend, so that their rows are
        read together."""
        who = person(actor, DEFAULT_STATE)
        return self._conditions((item, who) for item in items)

    def due_conditions(self, due: Iterable[Record]) -> set[str]:
        """Returns the same for the records that come due."""
        return self._conditions((record, Person(record.user or None)) for record in due)

    def _conditions(self, writes: Iterable[tuple[NewRecord | Record, Person]]) -> set[str]:
        names: set[str] = set()
        rules, _ = self._read_rules()
        if rules is not None and rules.conditional:
            for write, who in writes:
                match = rules.find(write.event)
                if match is not None and match.rule.conditional:
                    for operation in _operations(write):
                        names.update(match.conditions(operation, who))
        return names

    def check_insert(self, new: NewRecord, actor: Actor, who: Person, row: EventRow | None) -> None:
        """Raises Forbidden, or Unauthorized if a login could help; TooLarge; and Conflict."""
        event = new.event
        rules = None if event[0] == "$" else self.rules
        match = None if rules is None else rules.find(event)
        # Most inserts need no more than this.
        if match is not None and match.rule.free and actor.username and new.if_latest is None:
            return
        self.check_right(new, actor, who)
        if match is not None:
            _check_limits(match.rule.max_bytes, once=match.rule.once, new=new, row=row)

    def check_right(self, new: NewRecord, actor: Actor, who: Person) -> None:
        """Raises Forbidden, or Unauthorized if a login could help, if the actor has no right to this insert, whatever
        its event and its uuid hold already.

        A user's repeated insert is not judged again, but a stranger's is. All strangers, and the operator, have the
        user name "". So the uuid may be that of somebody else's record, and whoever has no right to insert it must not
        learn whether its data was guessed."""
        missing = self._missing(new, who)
        if missing is not None:
            refuse(actor, missing, "until: " if missing == "remove" and new.data != REMOVAL else "")
        if new.if_latest is not None and not self._allows("read", new.event, who):
            refuse(actor, "read")

    def check_cancel(self, record: Record, actor: Actor) -> None:
        """Raises NotFound, as if there were no such record, if the actor may not cancel it. A stranger never may: where
        only a condition decides (``if``), it could hold for strangers, too."""
        who = self.person(actor)
        if not actor.username or (record.event[0] == "$" and not self._rules_over_http):
            raise_unknown(record)
        match = None if record.event[0] == "$" or self.rules is None else self.rules.find(record.event)
        if match is not None and "cancel" not in match.rule.rights and actor.username == record.user:
            return
        if not self._allows("cancel", record.event, who):
            raise_unknown(record)

    def _allows(self, operation: Operation, event: str, who: Person) -> bool:
        """Whether somebody has this right now. Without rules, every user has every right. Only administrators have
        rights to Broker's own events."""
        if event[0] == "$":
            return ADMIN in who.roles
        rules = self.rules
        return who.username is not None if rules is None else rules.allows(operation, event, who, self.exists)

    def _missing(self, write: NewRecord | Record, who: Person) -> Operation | None:
        """Returns a right without which the record must not be inserted, and which this person does not have."""
        for operation in _operations(write):
            if not self._allows(operation, write.event, who):
                return operation
        return None

    def check_change(self, user_id: str, actor: Actor) -> None:
        """Raises Forbidden, unless the actor is this user, an administrator or the operator; and Unauthorized."""
        if not actor.operator and ADMIN not in self.person(actor).roles and actor.user_id != user_id:
            raise Forbidden("only an administrator may do this")

    # What comes due

    def load_users(self, usernames: Iterable[str]) -> None:
        """Reads the users who have inserted what comes due."""
        missing = {username_key(name) for name in usernames if name} - self._by_name.keys()
        if missing:
            self._by_name |= dict.fromkeys(missing, UserState(disabled=True))  # who is not there has no rights
            self._by_name |= {username_key(user.username): user.state for user in self._tables.users_named(missing)}

    def refusal(self, record: Record) -> str:
        """Returns why a record that comes due must not be published, or "" if it may be."""
        self.load_users([record.user])
        state = self._by_name[username_key(record.user)] if record.user else DEFAULT_STATE
        if state.disabled:
            return "the user who inserted it is disabled"
        who = Person(record.user or None, frozenset(state.roles))
        if record.event == RULES_EVENT:
            if record.user and ADMIN not in who.roles:
                return "the user who inserted it is no administrator any more"
            return _parse(record.data)[1]
        rules = self.rules
        if rules is None:
            return ""
        if missing := self._missing(record, who):
            needed = ", which until needs" if missing == "remove" and record.data != REMOVAL else ""
            return f"the user who inserted it has no right to {missing} this event any more{needed}"
        match = rules.find(record.event)
        if match is not None:
            row = self._rows.get(record.event)
            if match.rule.once and record.data != REMOVAL and row is not None and row.has_state:
                return "the event has state already, and its rule permits only one insert (once)"
            if match.rule.max_bytes is not None and len(record.data) > match.rule.max_bytes:
                return f"its data has more than {match.rule.max_bytes} bytes (max_bytes of its rule)"
        return ""

    # What a batch must be able to undo

    def undo(self) -> Callable[[], None]:
        """Returns a function that forgets what is learned from now on."""
        saved = self._newest, dict(self._states), dict(self._by_name), self.active

        def undo() -> None:
            self._newest, self._states, self._by_name, self.active = saved

        return undo


def raise_unknown(record: Record) -> NoReturn:
    raise NotFound(f"no record has the uuid {record.uuid}")


def _parse(data: bytes) -> _Newest:
    try:
        return read_rules(data).rules, ""
    except BadRequest as error:
        return Rules(), str(error)


def _operations(write: NewRecord | Record) -> tuple[Operation, ...]:
    """Returns the rights that are needed to insert a record. One that ends by itself also removes its event."""
    if write.data == REMOVAL:
        return ("remove",)
    return ("insert",) if write.until_us is None else ("insert", "remove")


def _check_limits(max_bytes: int | None, *, once: bool, new: NewRecord, row: EventRow | None) -> None:
    if max_bytes is not None and len(new.data) > max_bytes:
        raise TooLarge(
            f"data: it has {len(new.data)} bytes, and the rule of this event permits {max_bytes} (max_bytes)"
        )
    if once and new.data != REMOVAL and row is not None and row.has_state:
        raise Conflict("this event has state already, and its rule permits only one insert (once)")
