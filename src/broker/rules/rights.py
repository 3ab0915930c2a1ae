"""What a node knows about rights: the rules, and the state of the users, as of a position of the log."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import msgspec

from broker.errors import BadRequest, Forbidden, SettingsError, Unauthorized, Unavailable
from broker.names import RULES_EVENT, USER_EVENT
from broker.rules.file import RulesFile, parse_file
from broker.rules.rules import Operation, Rules
from broker.rules.who import ADMIN, Person
from broker.users import DEFAULT_STATE, Actor, UserState

FORMAT = 1  # of the data of ``$rules``; a version of Broker that does not know a format refuses to work with it


class RulesData(msgspec.Struct, forbid_unknown_fields=True):
    """The data of ``$rules``: the text of the rules file, as it was written."""

    format: int
    toml: str


_rules_decoder = msgspec.json.Decoder(RulesData)
_state_decoder = msgspec.json.Decoder(UserState)


def encode_rules(toml: str) -> bytes:
    return msgspec.json.encode(RulesData(FORMAT, toml))


def read_rules(data: bytes) -> RulesFile:
    """Reads the data of ``$rules``. Raises BadRequest."""
    try:
        content = _rules_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f'$rules: expected {{"format":{FORMAT},"toml":"…"}}: {error}') from None
    if content.format != FORMAT:
        raise BadRequest(f"$rules: the format {content.format} is not known to this version of Broker")
    return parse_file(content.toml)


def read_state(data: bytes) -> UserState:
    """Reads the data of ``$user/<id>``. Raises BadRequest."""
    try:
        return _state_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"$user: {error}") from None


class Version(NamedTuple):
    """Which rights: those as of the newest ``$rules`` or ``$user`` record, which has this position."""

    epoch: str
    position: int  # 0: there is no such record


class Rights:
    """The rules, and the states of the users that are not the default.

    Mutable state: all of it. The relay owns it, and changes it when its position advances to a record of ``$rules`` or
    ``$user``. The store's writer thread reads it. The danger: the thread could read one part before a change, and
    another part after it. So ``version`` is changed last. The thread compares it, under the store's lock, with the
    version in the store. If they are equal, the relay has finished this change, and cannot begin another one, because
    that would have to be committed first."""

    def __init__(self) -> None:
        self.version = Version("", 0)
        self.rules: Rules | None = None  # None: there are no rules, so everything is open
        self.broken = ""  # why the newest rules cannot be used; "": they can
        # Why nobody may rely on the rights yet, because a restore has brought them back; "": one may. The store sets it
        # before its first transaction.
        self.unconfirmed = ""
        self.users: dict[str, UserState] = {}

    def apply(self, event: str, data: bytes, version: Version) -> None:
        """Changes what the record of a reserved event says."""
        if event == RULES_EVENT:
            try:
                self.rules, self.broken = read_rules(data).rules, ""
            except BadRequest as error:
                self.rules, self.broken = Rules(), str(error)  # nobody may do anything
        elif event.startswith(USER_EVENT):
            self.users[event.removeprefix(USER_EVENT)] = read_state(data)
        self.version = version

    def check(self) -> None:
        """Raises Unavailable if the newest rules cannot be used."""
        if self.broken:
            raise Unavailable(
                f"this version of Broker cannot use the rules of this log ({self.broken}); its operator has to act"
            )

    def check_start(self, *, also_unconfirmed: bool) -> None:
        """Raises SettingsError if the newest rules cannot be used, or, unless ``also_unconfirmed`` is set, if they were
        restored and not confirmed, so that a node does not even start."""
        if self.unconfirmed and not also_unconfirmed:
            raise SettingsError(self.unconfirmed)
        if self.broken:
            raise SettingsError(
                f"this version of Broker cannot use the rules of this log: {self.broken}. A newer version has probably "
                "written them; start that one"
            )

    def state(self, user_id: str) -> UserState:
        return self.users.get(user_id, DEFAULT_STATE)

    def person(self, actor: Actor) -> Person:
        """Returns the person who asks, with the roles that the person has now."""
        return person(actor, self.state(actor.user_id))


def person(actor: Actor, state: UserState) -> Person:
    if actor.operator:
        return OPERATOR_PERSON
    return Person(actor.username or None, frozenset(state.roles) if state.roles else _NO_ROLES)


_NO_ROLES: frozenset[str] = frozenset()
OPERATOR_PERSON = Person("", frozenset({ADMIN}))


PHRASES: dict[Operation, str] = {
    "read": "read", "insert": "insert", "remove": "remove", "cancel": "cancel records of", "log": "read the log of",
}  # fmt: skip


def refuse(actor: Actor, operation: Operation, field: str = "") -> NoReturn:
    """Raises the refusal of what an actor has no right to do: Forbidden, or Unauthorized, if a login could give the
    right. The message is the same whether or not there is such an event. It begins with ``field``, if that is why the
    right is needed."""
    if not actor.username:
        raise Unauthorized(
            f"{field}you have no right to {PHRASES[operation]} this event without a token: log in, then send the "
            "header Authorization: Bearer <jwt>"
        )
    raise Forbidden(
        f"{field}you have no right to {PHRASES[operation]} this event; the rules of this server say who has"
    )


def is_rights_event(event: str) -> bool:
    """Whether a record of this event changes rights."""
    return event == RULES_EVENT or event.startswith(USER_EVENT)
