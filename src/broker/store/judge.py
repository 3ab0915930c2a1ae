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

_INVALID = "the token is not valid any more; log in again"


class KnownRules:
    """The rules that were read from the store last, because the node's relay was not as far as the store.

    Mutable state: these rules, and their position. It belongs to the writer's thread."""

    def __init__(self) -> None:
        self.version: Version | None = None
        self.rules = Rules()


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
        self._rules: Rules | None = None
        self._rules_known = False
        self._broken = ""
        self._states: dict[str, UserState] = {}
        self._by_name: dict[str, UserState] = {}  # the states of users, by the keys of their names
        # Whether anything needs to be judged. In a log without rules, in which no user was ever disabled or logged out,
        # nothing does.
        self.active = version.position > 0

    def learn(self, event: str, data: bytes) -> None:
        """Takes a record into account that the transaction publishes, and that changes rights."""
        self.active = True
        if event == RULES_EVENT:
            self._rules, self._rules_known, self._broken = _parse(data)
        elif event.startswith(USER_EVENT):
            self._states[event.removeprefix(USER_EVENT)] = read_state(data)
            self._by_name = {}  # they are read again

    # What the rights are

    @property
    def broken(self) -> str:
        """Why the newest rules cannot be used; "" if they can."""
        self._read_rules()
        return self._broken

    @property
    def holds_due(self) -> bool:
        """Whether nothing that is due may be published, because nobody can say by which rights."""
        return bool(self._rights.unconfirmed or (self.active and self.broken))

    @property
    def rules(self) -> Rules | None:
        """Raises Unavailable if the newest rules cannot be used."""
        self._read_rules()
        if self._broken:
            raise Unavailable(f"this version of Broker cannot use the rules of this log ({self._broken})")
        return self._rules

    def _read_rules(self) -> None:
        if self._rules_known:
            return
        if self._current:
            self._rules, self._broken = self._rights.rules, self._rights.broken
        else:
            row = next(iter(self._tables.events([RULES_EVENT])), None)
            position = None if row is None else row[1]
            if position is not None:
                version = Version(self._version.epoch, position)
                if self._known.version != version:
                    record = self._tables.record_at(position)
                    assert record is not None
                    rules, _, self._broken = _parse(record.data)
                    if not self._broken:
                        self._known.version, self._known.rules = version, rules
                if not self._broken:
                    self._rules = self._known.rules
        self._rules_known = True

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
        return self._conditions((item.event, item.data, who) for item in items)

    def due_conditions(self, due: Iterable[Record]) -> set[str]:
        """Returns the same for the records that come due."""
        return self._conditions((record.event, record.data, Person(record.user or None)) for record in due)

    def _conditions(self, writes: Iterable[tuple[str, bytes, Person]]) -> set[str]:
        names: set[str] = set()
        self._read_rules()
        if self._rules is not None and self._rules.conditional:
            for event, data, who in writes:
                match = self._rules.find(event)
                if match is not None and match.rule.conditional:
                    names.update(match.conditions(_operation(data), who))
        return names

    def check_insert(self, new: NewRecord, actor: Actor, who: Person, row: EventRow | None) -> None:
        """Raises Forbidden, or Unauthorized if a login could help; TooLarge; and Conflict."""
        event = new.event
        rules = None if event[0] == "$" else self.rules
        match = None if rules is None else rules.find(event)
        # Most inserts need no more than this.
        if match is not None and match.rule.free and actor.username and new.if_latest is None:
            return
        operation = _operation(new.data)
        if rules is None:
            if (event[0] == "$" and ADMIN not in who.roles) or not actor.username:
                refuse(actor, operation)
            return
        if not rules.allows(operation, new.event, who, self.exists):
            refuse(actor, operation)
        if new.if_latest is not None and not rules.allows("read", new.event, who, self.exists):
            refuse(actor, "read")
        if match is not None:
            _check_limits(match.rule.max_bytes, once=match.rule.once, new=new, row=row)

    def check_cancel(self, record: Record, actor: Actor) -> None:
        """Raises NotFound, as if there were no such record, if the actor may not cancel it."""
        who = self.person(actor)
        if record.event[0] == "$" and not self._rules_over_http:
            raise_unknown(record)
        if ADMIN in who.roles:
            return
        rules = None if record.event[0] == "$" else self.rules
        match = None if rules is None else rules.find(record.event)
        if rules is None and record.event[0] != "$" and actor.username:
            return
        if match is not None and "cancel" in match.rule.rights:
            allowed = match.allows("cancel", who, self.exists)
        else:
            allowed = match is not None and actor.username != "" and actor.username == record.user
        if not allowed:
            raise_unknown(record)

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
            _, _, broken = _parse(record.data)
            return broken
        rules = self.rules
        if rules is None:
            return ""
        operation = _operation(record.data)
        if not rules.allows(operation, record.event, who, self.exists):
            return f"the user who inserted it has no right to {operation} this event any more"
        match = rules.find(record.event)
        if match is not None:
            row = self._rows.get(record.event)
            if match.rule.once and operation == "insert" and row is not None and row.has_state:
                return "the event has state already, and its rule permits only one insert (once)"
            if match.rule.max_bytes is not None and len(record.data) > match.rule.max_bytes:
                return f"its data has more than {match.rule.max_bytes} bytes (max_bytes of its rule)"
        return ""

    # What a batch must be able to undo

    def undo(self) -> Callable[[], None]:
        """Returns a function that forgets what is learned from now on."""
        saved = self._rules, self._rules_known, self._broken, dict(self._states), dict(self._by_name), self.active

        def undo() -> None:
            self._rules, self._rules_known, self._broken, self._states, self._by_name, self.active = saved

        return undo


def raise_unknown(record: Record) -> NoReturn:
    raise NotFound(f"no record has the uuid {record.uuid}")


def _parse(data: bytes) -> tuple[Rules, bool, str]:
    """Returns the rules, True, and why they cannot be used."""
    try:
        return read_rules(data).rules, True, ""
    except BadRequest as error:
        return Rules(), True, str(error)


def _operation(data: bytes) -> Operation:
    return "remove" if data == REMOVAL else "insert"


def _check_limits(max_bytes: int | None, *, once: bool, new: NewRecord, row: EventRow | None) -> None:
    if max_bytes is not None and len(new.data) > max_bytes:
        raise TooLarge(
            f"data: it has {len(new.data)} bytes, and the rule of this event permits {max_bytes} (max_bytes)"
        )
    if once and new.data != REMOVAL and row is not None and row.has_state:
        raise Conflict("this event has state already, and its rule permits only one insert (once)")
