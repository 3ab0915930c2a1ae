"""The routes of events: inserting, streams, states, logs, and what is pending."""

from __future__ import annotations

from typing import Any

from broker.schema import SAMPLES_MAX
from openapi.operations import (
    BEARER,
    COOKIE,
    LIMIT,
    NAMES,
    OPTIONAL,
    RESTRICTED_BODY,
    TICKET,
    call,
    parameter,
    responses,
)
from openapi.schemas import EVENT, STREAM, UUID, ref

_EVENTS = parameter("event", "query", NAMES, "names, or prefix*")
_AFTER = parameter("after", "query", UUID, "the page starts behind this record")
_KNOWN = parameter("If-None-Match", "header", {"type": "string"}, "the `ETag` of an earlier answer")
_UNCHANGED = {"304": {"description": "nothing has changed"}}
_RECORDS = {
    "application/json": {"schema": {"type": "array", "items": ref("RecordView")}},
    "application/x-ndjson": {"schema": {"type": "string"}},
}


def event_routes() -> dict[str, Any]:
    log = _log()
    cancel = call(
        "cancels a pending record; again is fine", "RecordView", 400, 401, 404, 409, 503,
        parameters=[parameter("uuid", "path", UUID, "the record's uuid")],
    )  # fmt: skip
    return {
        "/insert": {"post": _insert()},
        "/events": _stream(),
        "/snapshot": {"get": _state()},
        "/schema/{event}": {"get": _schema()},
        "/types.d.ts": {"get": _types()},
        "/pending": {"get": _pending()},
        "/collections/{event}": {"get": log},
        "/collection/{event}": {"get": log | {"summary": "the same as /collections/{event}"}},
        "/cancel/{uuid}": {"get": cancel, "post": cancel},
    }


def _insert() -> dict[str, Any]:
    return call(
        "appends a record, or a batch of them, all or none",
        "RecordView", *RESTRICTED_BODY, 409, 412, 429, 507, body="InsertBody", created=True, secured=True, batches=True,
        parameters=[parameter("Prefer", "header", {"type": "string"}, "`return=minimal`: a Receipt will do")],
    )  # fmt: skip


def _stream() -> dict[str, Any]:
    frames = {"text/event-stream": {"schema": {"type": "string"}}}
    last_event_id = parameter(
        "Last-Event-ID", "header", {"type": "string"}, "resume after it; EventSource sends it when it reconnects"
    )
    return {
        "get": {
            "summary": "the stream: the latest of every event, `$ready`, then live",
            "parameters": [
                parameter("event", "query", NAMES, STREAM["event"]),
                parameter("new", "query", NAMES, STREAM["new"]),
                parameter("last_event_id", "query", {"type": "string"}, STREAM["last_event_id"]),
                parameter("frames", "query", {"enum": ["record"]}, STREAM["frames"]),
                parameter("heartbeat", "query", {"enum": ["event"]}, STREAM["heartbeat"]),
                parameter("pending", "query", {"enum": ["yes"]}, STREAM["pending"]),
                parameter("user", "query", {"type": "string"}, STREAM["user"]),
                last_event_id,
            ],
            "responses": responses("the stream", frames, 400, 401, 403),
            "security": [*OPTIONAL, *COOKIE, *TICKET],
        },
        "post": {
            "summary": "the same stream, with the parameters as JSON: for clients with many names",
            "parameters": [last_event_id],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref("StreamBody")}}},
            "responses": responses("the stream", frames, 400, 401, 403, 413, 415, 503),
            "security": OPTIONAL,
        },
    }


def _state() -> dict[str, Any]:
    return {
        "summary": "the latest of every event, now or at another time",
        "parameters": [
            _EVENTS,
            parameter("order", "query", {"enum": ["name", "newest"]}, "by name, or the newest first"),
            LIMIT,
            parameter("after", "query", {"type": "string"}, "by name: only names behind this one"),
            parameter("before", "query", {"type": "string"}, "newest first: only records before this id"),
            parameter("search", "query", {"type": "string"}, "only names that contain this text"),
            parameter("data", "query", {"enum": ["no"]}, "leaves the data out"),
            parameter("at", "query", {"type": "string"}, "the state at this time: epoch seconds or RFC 3339"),
            parameter("last_event_id", "query", {"type": "string"}, "waits until the answer includes this id"),
            _KNOWN,
        ],
        "security": [*OPTIONAL, *COOKIE],
        "responses": responses(
            "the state, as of the id in `Last-Event-ID`; `Link: <…>; rel=\"next\"` where a page follows",
            _RECORDS, 400, 401, 503,
        ) | _UNCHANGED,
    }  # fmt: skip


def _schema() -> dict[str, Any]:
    return {
        "summary": "a JSON Schema of the event's data, inferred from its latest version",
        "parameters": [
            parameter("event", "path", {"type": "string"}, "the event's name, or prefix*"),
            parameter("versions", "query", {"type": "integer", "minimum": 1, "maximum": SAMPLES_MAX}, "that count"),
            _KNOWN,
        ],
        "responses": responses(
            "the schema", {"application/schema+json": {"schema": {"type": "object"}}}, 400, 401, 403, 404, 503
        ) | _UNCHANGED,
    }  # fmt: skip


def _types() -> dict[str, Any]:
    return {
        "summary": "the types of the data of all events, as TypeScript",
        "parameters": [_KNOWN],
        "responses": responses("the declarations", {"text/plain": {"schema": {"type": "string"}}}, 401, 503)
        | _UNCHANGED,
    }


def _pending() -> dict[str, Any]:
    return {
        "summary": "what is pending, by due time",
        "parameters": [_EVENTS, LIMIT, _AFTER],
        "responses": responses('the records; `Link: <…>; rel="next"` where a page follows', _RECORDS, 400, 401, 503),
        "security": BEARER,
    }


def _log() -> dict[str, Any]:
    return {
        "summary": "an event's log, oldest first, all states",
        "parameters": [
            parameter("event", "path", EVENT, "the event's name"),
            LIMIT,
            _AFTER,
            parameter("order", "query", {"enum": ["asc", "desc"]}, "oldest or newest first"),
        ],
        "responses": responses('the log; `Link: <…>; rel="next"` where a page follows', _RECORDS, 400, 401, 403, 503),
        "security": [*BEARER, *COOKIE],
    }
