"""Prints the OpenAPI 3.1 document, made from the same types that the endpoints use: `make docs` writes it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import msgspec

from broker import __version__
from broker.records import TIMESTAMP_MAX, TIMESTAMP_MIN, RecordView
from broker.rules.rules import OPERATIONS
from broker.schema import SAMPLES_MAX
from broker.users import PASSWORD_CHARACTERS_MIN, OwnView
from broker.web.accounts import LoginBody, LoginView, PasswordBody, SignUpView, UserBody
from broker.web.insert import CancelBody, InsertBody
from broker.web.rights import CheckBody, CheckView
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
    Problem, PasswordBody, RolesBody, AdminBody, CheckBody, CheckView, CodeView, AccountView, Rights, Nothing,
)  # fmt: skip
_UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_UUID = {"type": "string", "pattern": f"^{_UUID_PATTERN}$"}
# The rest of names.py (255 bytes; path segments; `error` and `open`) is not for a regular expression.
_EVENT = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f*$][^\\u0000-\\u001f\\u007f-\\u009f*]*$",
}
# Not . and not .., without a look-ahead, which not every program's regular expressions have.
_NEW_USERNAME = r"^(\.{0,2}[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*|\.{3}[A-Za-z0-9._@+-]*)$"
_SECONDS = {"type": "number", "description": "epoch seconds"}
_NAMES = {"type": "array", "items": {"type": "string"}}
_STREAM = {
    "event": "names, or prefix*; without any: all events",
    "new": "those of `event` that are new to a client which resumes: their latest records come first, without ids",
    "last_event_id": "resume after it, on a first connect",
    "frames": "`record`: each record comes whole, as a message without a name",
    "heartbeat": "`event`: heartbeats come as `$heartbeat`",
    "pending": "`yes`: `$pending` comes when the list of pending records may have changed; this needs a token",
    "user": "the name of the token's user: 401 if there is no token, or another user's",
}
_OPTIONAL: list[dict[str, list[str]]] = [{}, {"bearer": []}]  # with a token, record frames name their users


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Broker",
            "version": __version__,
            "description": "A zero-code real-time API server: insert events as JSON, and every connected page receives "
            "them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "."}],  # where this document is: Broker may be mounted under a path
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _schemas() -> dict[str, Any]:
    types = [_plain_defaults(each) for each in _TYPES]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    insert, record, user = (schemas[each.__name__]["properties"] for each in (InsertBody, RecordView, UserBody))
    insert["event"] = _EVENT | {"description": "a name such as `user` or `orders/42`"}
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
    schemas["CancelBody"]["properties"]["cancel"] = _UUID | {"description": "the uuid of a pending record"}
    insert["published"] |= {"description": "true: log-only, never on the stream"}
    insert["uuid"] = _UUID | {
        "type": ["string", "null"],
        "description": "your own, so that an insert cut off can be sent again",
    }
    record["uuid"] = _UUID
    for name in ("timestamp", "inserted_at"):
        record[name] = _SECONDS
    for name in ("until", "ends", "data", "user", "reason"):
        schemas["RecordView"]["required"].remove(name)
    record["published_at"] = {"type": ["number", "null"], "description": "epoch seconds"}
    record["data"] = {"description": "as it was sent; not there if `data=no` was asked for"}
    record["user"] |= {"description": "who inserted it; null for a stranger; for readers with a token"}
    record["reason"] |= {"description": "why the server has cancelled it when its time came, if it has"}
    record["until"] = _SECONDS | {"description": "epoch seconds; when this version ends, if it does"}
    record["ends"] = _UUID | {"description": "the version that this record ends, because its time `until` has come"}
    for each in (user, schemas["LoginBody"]["properties"]):
        each["username"] |= {"description": "1 to 64 of A-Z a-z 0-9 . _ @ + -, whatever the case; not . and not .."}
        each["password"] |= {"format": "password", "description": "8 characters or more, at most 1,024 bytes of UTF-8"}
    user["username"] |= {"maxLength": 64, "pattern": _NEW_USERNAME}
    user["password"] |= {"minLength": PASSWORD_CHARACTERS_MIN}
    user["info"] = {"description": "any JSON"}
    for name, description in _STREAM.items():
        schemas["StreamBody"]["properties"][name] |= {"description": description}
    schemas["StreamBody"]["properties"]["frames"] |= {"anyOf": [{"enum": ["record"]}, {"type": "null"}]}
    schemas["StreamBody"]["properties"]["heartbeat"] |= {"anyOf": [{"enum": ["event"]}, {"type": "null"}]}
    schemas["StreamBody"]["properties"]["pending"] |= {"anyOf": [{"enum": ["yes"]}, {"type": "null"}]}
    schemas["StreamBody"]["description"] = (
        "The parameters of a stream, for clients with more names than fit into a URL."
    )
    schemas["Problem"]["properties"]["index"] |= {"minimum": 0, "description": "of the bad record in a batch, from 0"}
    schemas["Problem"]["properties"]["latest"] = {
        "anyOf": [_ref("RecordView"), _ref("Receipt"), {"type": "null"}],
        "description": "of a 412: the version that is the latest",
    }
    schemas["UserBody"]["description"] = "A user to create."
    schemas["RecordView"]["description"] = "One version of an event, as the log holds it."
    schemas["LoginView"]["description"] = "A token that was just made."
    schemas["SignUpView"]["description"] = "A user that was just created, with a token."
    schemas["OwnView"]["description"] = "One's own account."
    schemas["PasswordBody"]["properties"]["password"] |= {"format": "password", "minLength": PASSWORD_CHARACTERS_MIN}
    schemas["PasswordBody"]["properties"]["old"] |= {"description": "the old password, with the token"}
    schemas["PasswordBody"]["properties"]["code"] |= {"description": "of an administrator, with `username`"}
    schemas["CheckBody"]["properties"]["event"] = _EVENT
    schemas["CheckBody"]["properties"]["operation"] = {"enum": list(OPERATIONS)}
    schemas["CheckBody"]["properties"]["who"] |= {"description": "a user name, or `public`"}
    schemas["CodeView"]["properties"]["expires_at"] = _SECONDS
    schemas["Problem"]["properties"]["allowed"] |= {"description": "of a 429: how many of the batch would pass now"}
    for name in ("OwnView", "AccountView", "SignUpView"):
        schemas[name]["properties"]["info"] = {"description": "as it was sent"}
    for name in ("SignUpView", "LoginView"):
        schemas[name]["properties"]["expires_at"] = {"type": "integer", "description": "epoch seconds, of the token"}
        schemas[name]["properties"]["time"] = _SECONDS | {"description": "epoch seconds, of the server's clock"}
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


def _paths() -> dict[str, Any]:
    event = _parameter("event", "path", _EVENT, "the event's name")
    uuid = _parameter("uuid", "path", _UUID, "the record's uuid")
    events = _parameter("event", "query", {"type": "array", "items": {"type": "string"}}, "names, or prefix*")
    limit = _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000}, "records in a page")
    records = {
        "application/json": {"schema": {"type": "array", "items": _ref("RecordView")}},
        "application/x-ndjson": {"schema": {"type": "string"}},
    }
    log = {
        "summary": "an event's log, oldest first, all states",
        "parameters": [
            event,
            limit,
            _parameter("after", "query", _UUID, "the page starts behind this record"),
            _parameter("order", "query", {"enum": ["asc", "desc"]}, "oldest or newest first"),
        ],
        "responses": _answers('the log; `Link: <…>; rel="next"` where a page follows', records, 400, 401, 403, 503),
        "security": [{"bearer": []}],
    }
    pending = {
        "summary": "what is pending, by due time",
        "parameters": [
            events,
            limit,
            _parameter("after", "query", _UUID, "the page starts behind this record"),
        ],
        "responses": _answers('the records; `Link: <…>; rel="next"` where a page follows', records, 400, 401, 503),
        "security": [{"bearer": []}],
    }
    known = _parameter("If-None-Match", "header", {"type": "string"}, "the `ETag` of an earlier answer")
    unchanged = {"304": {"description": "nothing has changed"}}
    state = {
        "summary": "the latest of every event, now or at another time",
        "parameters": [
            events,
            _parameter("order", "query", {"enum": ["name", "newest"]}, "by name, or the newest first"),
            limit,
            _parameter("after", "query", {"type": "string"}, "by name: only names behind this one"),
            _parameter("before", "query", {"type": "string"}, "newest first: only records before this id"),
            _parameter("search", "query", {"type": "string"}, "only names that contain this text"),
            _parameter("data", "query", {"enum": ["no"]}, "leaves the data out"),
            _parameter("at", "query", {"type": "string"}, "the state at this time: epoch seconds or RFC 3339"),
            _parameter("last_event_id", "query", {"type": "string"}, "waits until the answer includes this id"),
            known,
        ],
        "responses": _answers(
            "the state, as of the id in `Last-Event-ID`; `Link: <…>; rel=\"next\"` where a page follows",
            records, 400, 401, 503,
        ) | unchanged,
    }  # fmt: skip
    schema = {
        "summary": "a JSON Schema of the event's data, inferred from its latest version",
        "parameters": [
            _parameter("event", "path", {"type": "string"}, "the event's name, or prefix*"),
            _parameter("versions", "query", {"type": "integer", "minimum": 1, "maximum": SAMPLES_MAX}, "that count"),
            known,
        ],
        "responses": _answers(
            "the schema", {"application/schema+json": {"schema": {"type": "object"}}}, 400, 401, 403, 404, 503
        ) | unchanged,
    }  # fmt: skip
    types = {
        "summary": "the types of the data of all events, as TypeScript",
        "parameters": [known],
        "responses": _answers("the declarations", {"text/plain": {"schema": {"type": "string"}}}, 401, 503) | unchanged,
    }
    cancel = _call("cancels a pending record; again is fine", "RecordView", 400, 401, 404, 409, 503, parameters=[uuid])
    users = {"application/json": {"schema": {"type": "array", "items": _ref("AccountView")}}}
    user_id = _parameter("id", "path", {"type": "string", "pattern": "^[0-9a-f-]+$"}, "the user's id")

    def administer(summary: str, answer: str) -> dict[str, Any]:
        return _call(f"{summary}, for administrators", answer, 401, 403, 404, 503, parameters=[user_id])

    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    last_event_id = _parameter(
        "Last-Event-ID", "header", {"type": "string"}, "resume after it; EventSource sends it when it reconnects"
    )
    return {
        "/users": {
            "get": {
                "summary": "users by name, for administrators",
                "parameters": [
                    _parameter("name", "query", {"type": "string"}, "only the user with this name"),
                    limit,
                    _parameter("after", "query", {"type": "string"}, "only names after this one"),
                ],
                "responses": _answers("the users", users, 400, 401, 403, 404, 503),
                "security": [{"bearer": []}],
            },
            "post": _call(
                "creates a user", "SignUpView", 400, 403, 409, 413, 415, 429, 503, body="UserBody", created=True
            ),
        },
        "/users/me": {"get": _call("the caller", "OwnView", 401, 404, 503)},
        "/users/me/password": {
            "post": _call(
                "another password, with the old one or a code; ends all sessions",
                "LoginView",
                400,
                401,
                403,
                404,
                409,
                413,
                415,
                429,
                503,
                body="PasswordBody",
            )
            | {"security": _OPTIONAL}
        },
        "/users/{id}/roles": {
            "post": _call(
                "gives a user these roles, for administrators",
                "AccountView",
                400,
                401,
                403,
                404,
                413,
                415,
                503,
                body="RolesBody",
                secured=True,
                parameters=[user_id],
            )
        },
        "/users/{id}/disable": {"post": administer("ends a user's sessions, and keeps the user out", "AccountView")},
        "/users/{id}/enable": {"post": administer("lets a user in again", "AccountView")},
        "/users/{id}/reset": {"post": administer("a code with which a user sets a new password", "CodeView")},
        "/admin": {
            "post": _call(
                "makes the caller the first administrator",
                "AccountView",
                400,
                401,
                403,
                404,
                413,
                415,
                503,
                body="AdminBody",
            )
        },
        "/logout": {"post": _call("ends the session of this token", "Nothing", 401, 404, 503)},
        "/rights": {
            "get": {
                "summary": "what the caller may do with an event",
                "parameters": [_parameter("event", "query", _EVENT, "the event's name") | {"required": True}],
                "responses": _answers("the rights", {"application/json": {"schema": _ref("Rights")}}, 400, 401, 503),
                "security": _OPTIONAL,
            }
        },
        "/rules/check": {
            "post": _call(
                "what somebody may do, and which rule decides, for administrators",
                "CheckView",
                400,
                401,
                403,
                404,
                413,
                415,
                503,
                body="CheckBody",
                secured=True,
            )
        },
        "/login": {"post": _call("a token", "LoginView", 400, 401, 413, 415, 429, 503, body="LoginBody", public=True)},
        "/token": {"post": _call("another token, in place of one that has not expired", "LoginView", 401, 503)},
        "/insert": {
            "post": _call(
                "appends a record, or a batch of them, all or none",
                "RecordView",
                400,
                401,
                403,
                404,
                409,
                412,
                413,
                415,
                429,
                503,
                507,
                body="InsertBody",
                created=True,
                secured=True,
                batches=True,
                parameters=[_parameter("Prefer", "header", {"type": "string"}, "`return=minimal`: a Receipt will do")],
            )
        },
        "/events": {
            "get": {
                "summary": "the stream: the latest of every event, `$ready`, then live",
                "parameters": [
                    _parameter("event", "query", _NAMES, _STREAM["event"]),
                    _parameter("new", "query", _NAMES, _STREAM["new"]),
                    _parameter("last_event_id", "query", {"type": "string"}, _STREAM["last_event_id"]),
                    _parameter("frames", "query", {"enum": ["record"]}, _STREAM["frames"]),
                    _parameter("heartbeat", "query", {"enum": ["event"]}, _STREAM["heartbeat"]),
                    _parameter("pending", "query", {"enum": ["yes"]}, _STREAM["pending"]),
                    _parameter("user", "query", {"type": "string"}, _STREAM["user"]),
                    last_event_id,
                ],
                "responses": _answers("the stream", stream, 400, 401, 403),
                "security": _OPTIONAL,
            },
            "post": {
                "summary": "the same stream, with the parameters as JSON: for clients with many names",
                "parameters": [last_event_id],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("StreamBody")}}},
                "responses": _answers("the stream", stream, 400, 401, 403, 413, 415, 503),
                "security": _OPTIONAL,
            },
        },
        "/snapshot": {"get": state},
        "/schema/{event}": {"get": schema},
        "/types.d.ts": {"get": types},
        "/pending": {"get": pending},
        "/collections/{event}": {"get": log},
        "/collection/{event}": {"get": log | {"summary": "the same as /collections/{event}"}},
        "/cancel/{uuid}": {"get": cancel, "post": cancel},
        "/healthz": {"get": _plain("the process runs")},
        "/readyz": {"get": _plain("the store is in reach", 503)},
        "/metrics": {"get": _plain("figures in Prometheus' text format, for this machine or with a token", 403)},
        "/openapi.json": {"get": _plain("this document")},
        "/docs": {"get": _plain("this document, to read")},
    }


def _call(
    summary: str, answer: str, *problems: int, body: str = "", created: bool = False, secured: bool = False,
    batches: bool = False, public: bool = False, parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    content: dict[str, Any] = {"application/json": {"schema": _ref(answer)}}
    call: dict[str, Any] = {"summary": summary, "responses": _answers(summary, content, *problems)}
    if batches:
        content["application/json"]["schema"] = {"anyOf": _one_or_many(answer) + _one_or_many("Receipt")}
    if created:
        success = call["responses"].pop("200")
        repeated = {"200": success | {"description": "the first records: the same uuids were sent before"}}
        call["responses"] = {"201": success, **(repeated if batches else {}), **call["responses"]}
    if parameters:
        call["parameters"] = parameters
    if body:
        taken: dict[str, Any] = {"application/json": {"schema": _ref(body)}}
        if batches:
            items = {"anyOf": [_ref(body), _ref("CancelBody")]}
            taken["application/json"]["schema"] = {
                "oneOf": [_ref(body), {"type": "array", "items": items, "minItems": 1}]
            }
            lines = {"type": "string", "description": f"{body} or CancelBody, one a line"}
            taken["application/x-ndjson"] = {"schema": lines}
        call["requestBody"] = {"required": True, "content": taken}
    if secured or not (body or public):
        call["security"] = [{"bearer": []}]
    return call


def _plain(summary: str, *problems: int) -> dict[str, Any]:
    return {"summary": summary, "responses": _answers(summary, {}, *problems)}


def _answers(description: str, content: dict[str, Any], *problems: int) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": description, **({"content": content} if content else {})}}
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    return answers | {str(code): {"description": HTTPStatus(code).phrase, "content": problem} for code in problems}


def _parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def _one_or_many(name: str) -> list[dict[str, Any]]:
    return [_ref(name), {"type": "array", "items": _ref(name), "minItems": 1}]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
