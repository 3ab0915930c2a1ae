"""What an operation of the document consists of: parameters, a body, and the responses with their statuses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from openapi.schemas import ref

NAMES = {"type": "array", "items": {"type": "string"}}
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
OPTIONAL: list[dict[str, list[str]]] = [{}, *BEARER]  # with a token, record frames name their users
COOKIE: list[dict[str, list[str]]] = [{"cookie": []}]  # what a plain EventSource can send
TICKET: list[dict[str, list[str]]] = [{"ticket": []}]
# The problems that operations have in common which have a body, and which not everybody may carry out.
RESTRICTED_BODY = (400, 401, 403, 404, 413, 415, 503)


def parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


LIMIT = parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000}, "records in a page")


def plain(summary: str, *problems: int) -> dict[str, Any]:
    """An operation without parameters, whose response is no JSON of a type."""
    return {"summary": summary, "responses": responses(summary, {}, *problems)}


def call(
    summary: str, answer: str, *problems: int, body: str = "", created: bool = False, secured: bool = False,
    batches: bool = False, public: bool = False, parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An operation that takes the type ``body``, if any, and returns the type ``answer``."""
    content: dict[str, Any] = {"application/json": {"schema": ref(answer)}}
    call: dict[str, Any] = {"summary": summary, "responses": responses(summary, content, *problems)}
    if batches:
        content["application/json"]["schema"] = {"anyOf": _one_or_many(answer) + _one_or_many("Receipt")}
    if created:
        success = call["responses"].pop("200")
        repeated = {"200": success | {"description": "the first records: the same uuids were sent before"}}
        call["responses"] = {"201": success, **(repeated if batches else {}), **call["responses"]}
    if parameters:
        call["parameters"] = parameters
    if body:
        taken: dict[str, Any] = {"application/json": {"schema": ref(body)}}
        if batches:
            items = {"anyOf": [ref(body), ref("CancelBody")]}
            taken["application/json"]["schema"] = {
                "oneOf": [ref(body), {"type": "array", "items": items, "minItems": 1}]
            }
            lines = {"type": "string", "description": f"{body} or CancelBody, one a line"}
            taken["application/x-ndjson"] = {"schema": lines}
        call["requestBody"] = {"required": True, "content": taken}
    if secured or not (body or public):
        call["security"] = BEARER
    return call


def responses(description: str, content: dict[str, Any], *problems: int) -> dict[str, Any]:
    """The responses with 200 and, in the order of the statuses, with ``problems``."""
    success: dict[str, Any] = {"description": description, **({"content": content} if content else {})}
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    return {"200": success} | {
        str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in sorted(problems)
    }


def _one_or_many(name: str) -> list[dict[str, Any]]:
    return [ref(name), {"type": "array", "items": ref(name), "minItems": 1}]
