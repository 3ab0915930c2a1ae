"""The schemas of the document, made from the types that the endpoints use."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec

from broker.records import TIMESTAMP_MAX, TIMESTAMP_MIN, RecordView
from broker.rules.rules import OPERATIONS
from broker.users import PASSWORD_CHARACTERS_MIN, OwnView
from broker.web.about import AboutView
from broker.web.accounts import LoginBody, LoginView, PasswordBody, SignUpView, UserBody
from broker.web.insert import CancelBody, InsertBody
from broker.web.keys import KeyBody, KeyView, NewKeyView
from broker.web.rights import CheckBody, CheckView
from broker.web.session import CookieView, SessionBody, TicketView
from broker.web.stream import StreamBody
from broker.web.users import AccountView, AdminBody, CodeView, RolesBody


class Problem(msgspec.Struct):
    """An error (RFC 9457): `detail` says what was wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str
    index: int | msgspec.UnsetType = msgspec.UNSET
    latest: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    allowed: int | msgspec.UnsetType = msgspec.UNSET


class Rights(msgspec.Struct):
    """What the caller may do with an event."""

    read: bool
    insert: bool
    remove: bool
    cancel: bool | str
    log: bool


class Nothing(msgspec.Struct):
    """An empty object."""


class Receipt(msgspec.Struct):
    """The short answer to an insert with `Prefer: return=minimal`."""

    uuid: str
    id: str | None


_TYPES = (
    InsertBody, CancelBody, LoginBody, UserBody, StreamBody, RecordView, Receipt, OwnView, SignUpView, LoginView,
    Problem, PasswordBody, RolesBody, AdminBody, CheckBody, CheckView, CodeView, AccountView, AboutView, Rights,
    Nothing, KeyBody, KeyView, NewKeyView, SessionBody, CookieView, TicketView,
)  # fmt: skip
_UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
UUID = {"type": "string", "pattern": f"^{_UUID_PATTERN}$"}
# The rest of names.py (255 bytes; path segments; `error` and `open`) is not for a regular expression.
EVENT = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f*$][^\\u0000-\\u001f\\u007f-\\u009f*]*$",
}
# Not . and not .., without a look-ahead, which not every program's regular expressions have.
_NEW_USERNAME = r"^(\.{0,2}[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*|\.{3}[A-Za-z0-9._@+-]*)$"
_SECONDS = {"type": "number", "description": "epoch seconds"}
STREAM = {
    "event": "names, or prefix*; without any: all events",
    "new": "those of `event` that are new to a client which resumes: their latest records come first, without ids",
    "last_event_id": "resume after it, on a first connect",
    "frames": "`record`: each record comes whole, as a message without a name",
    "heartbeat": "`event`: heartbeats come as `$heartbeat`",
    "pending": "`yes`: `$pending` comes when the list of pending records may have changed; this needs a token",
    "user": "the name of the token's user: 401 if there is no token, or another user's",
}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> dict[str, Any]:
    types = [_plain_defaults(each) for each in _TYPES]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():  # some versions of msgspec keep the indentation of a docstring, and others do not
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    _describe_inserts(schemas)
    _describe_records(schemas)
    _describe_streams(schemas)
    _describe_accounts(schemas)
    _describe_rights(schemas)
    _describe_problems(schemas)
    return schemas


def _plain_defaults(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same type for msgspec's schemas, which have no way to show a default that is raw JSON."""
    fields: list[tuple[str, type, Any]] = []
    for each in msgspec.structs.fields(struct):
        default = each.default
        if isinstance(default, msgspec.Raw):
            default = msgspec.field(default_factory=msgspec.Raw)
        fields.append((each.name, each.type, default))
    return msgspec.defstruct(
        struct.__name__,
        [field if field[2] is not msgspec.NODEFAULT else field[:2] for field in fields],
        namespace={"__doc__": struct.__doc__},
        forbid_unknown_fields=struct.__struct_config__.forbid_unknown_fields,
    )


def _describe_inserts(schemas: dict[str, Any]) -> None:
    insert = schemas["InsertBody"]["properties"]
    insert["event"] = EVENT | {"description": "a name such as `user` or `orders/42`"}
    insert["data"] = {"description": "any JSON; kept and delivered as sent"}
    insert["timestamp"] = _SECONDS | {
        "type": ["number", "string", "null"],
        "minimum": TIMESTAMP_MIN,
        "maximum": TIMESTAMP_MAX,
        "format": "date-time",
        "description": "epoch seconds, or a string of RFC 3339; in the future: published then; default: now",
    }
    insert["until"] = insert["timestamp"] | {
        "description": "epoch seconds; when this version ends, if it is still the latest then; default: it does not end"
    }
    insert["if_latest"] = {
        "type": ["string", "null"],
        "pattern": f"^(none|[0-9a-f]{{8}}-(0|[1-9][0-9]{{0,17}})|{_UUID_PATTERN})$",
        "description": "the id or uuid of the version that must be the latest, or `none`; otherwise: 412",
    }
    insert["late"] |= {
        "anyOf": [{"enum": ["publish", "refuse"]}, {"type": "null"}],
        "description": "`refuse`: 409 if its time has passed; default: it is published late",
    }
    insert["published"] |= {"description": "true: log-only, never on the stream"}
    insert["uuid"] = UUID | {
        "type": ["string", "null"],
        "description": "your own, so that an insert cut off can be sent again",
    }
    schemas["CancelBody"]["properties"]["cancel"] = UUID | {"description": "the uuid of a pending record"}


def _describe_records(schemas: dict[str, Any]) -> None:
    schemas["RecordView"]["description"] = "One version of an event, as the log holds it."
    for name in ("until", "ends", "data", "user", "reason"):
        schemas["RecordView"]["required"].remove(name)
    record = schemas["RecordView"]["properties"]
    record["uuid"] = UUID
    for name in ("timestamp", "inserted_at"):
        record[name] = _SECONDS
    record["published_at"] = {"type": ["number", "null"], "description": "epoch seconds"}
    cancelled = "not there either if the caller may cancel the record and not read the log"
    record["data"] = {"description": f"as it was sent; not there if `data=no` was asked for; {cancelled}"}
    record["user"] |= {
        "description": f"who inserted it; null for a stranger; not there for readers without a token; {cancelled}"
    }
    record["reason"] |= {"description": "why the server has cancelled it when its time came, if it has"}
    record["until"] = _SECONDS | {"description": "epoch seconds; when this version ends, if it does"}
    record["ends"] = UUID | {"description": "the version that this record ends, because its time `until` has come"}


def _describe_streams(schemas: dict[str, Any]) -> None:
    schemas["StreamBody"]["description"] = (
        "The parameters of a stream, for clients with more names than fit into a URL."
    )
    stream = schemas["StreamBody"]["properties"]
    for name, description in STREAM.items():
        stream[name] |= {"description": description}
    for name, value in (("frames", "record"), ("heartbeat", "event"), ("pending", "yes")):
        stream[name] |= {"anyOf": [{"enum": [value]}, {"type": "null"}]}


def _describe_accounts(schemas: dict[str, Any]) -> None:
    schemas["UserBody"]["description"] = "A user to create."
    schemas["LoginView"]["description"] = "A token that was just made."
    schemas["SignUpView"]["description"] = "A user that was just created, with a token."
    schemas["OwnView"]["description"] = "One's own account."
    user, login, password = (schemas[name]["properties"] for name in ("UserBody", "LoginBody", "PasswordBody"))
    for each in (user, login):
        each["username"] |= {"description": "1 to 64 of A-Z a-z 0-9 . _ @ + -, whatever the case; not . and not .."}
        each["password"] |= {"format": "password", "description": "8 characters or more, at most 1,024 bytes of UTF-8"}
    user["username"] |= {"maxLength": 64, "pattern": _NEW_USERNAME}
    user["password"] |= {"minLength": PASSWORD_CHARACTERS_MIN}
    user["info"] = {"description": "any JSON"}
    password["password"] |= {"format": "password", "minLength": PASSWORD_CHARACTERS_MIN}
    password["old"] |= {"description": "the old password, with the token"}
    password["code"] |= {"description": "of an administrator, with `username`"}
    schemas["CodeView"]["properties"]["expires_at"] = _SECONDS
    for name in ("OwnView", "AccountView", "SignUpView"):
        schemas[name]["properties"]["info"] = {"description": "as it was sent"}
    schemas["KeyBody"]["properties"]["name"] |= {"maxLength": 64, "pattern": _NEW_USERNAME}
    expires_at = schemas["InsertBody"]["properties"]["timestamp"] | {"description": "default: it does not expire"}
    schemas["KeyBody"]["properties"]["expires_at"] = expires_at
    schemas["SessionBody"]["properties"]["ticket"] |= {"description": "a ticket for the URL, in place of a cookie"}
    for name in ("CookieView", "TicketView"):
        schemas[name]["properties"]["time"] = _SECONDS | {"description": "epoch seconds, of the server's clock"}
    for name in ("SignUpView", "LoginView"):
        schemas[name]["properties"]["expires_at"] = {"type": "integer", "description": "epoch seconds, of the token"}
        schemas[name]["properties"]["time"] = _SECONDS | {"description": "epoch seconds, of the server's clock"}


def _describe_rights(schemas: dict[str, Any]) -> None:
    check = schemas["CheckBody"]["properties"]
    check["event"] = EVENT
    check["operation"] = {"enum": list(OPERATIONS)}
    check["who"] |= {"description": "a user name, or `public`"}


def _describe_problems(schemas: dict[str, Any]) -> None:
    problem = schemas["Problem"]["properties"]
    problem["index"] |= {"minimum": 0, "description": "of the bad record in a batch, from 0"}
    problem["latest"] = {
        "anyOf": [ref("RecordView"), ref("Receipt"), {"type": "null"}],
        "description": "of a 412: the version that is the latest",
    }
    problem["allowed"] |= {"description": "of a 429: how many of the batch would pass now"}
