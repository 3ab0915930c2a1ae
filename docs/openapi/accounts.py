"""The routes of accounts: users, their tokens, their roles, and what the rules let them do."""

from __future__ import annotations

from typing import Any

from openapi.operations import BEARER, LIMIT, OPTIONAL, RESTRICTED_BODY, call, parameter, responses
from openapi.schemas import EVENT, ref

_USER_ID = parameter("id", "path", {"type": "string", "pattern": "^[0-9a-f-]+$"}, "the user's id")


def account_routes() -> dict[str, Any]:
    return {**_users(), **_administration(), **_rights(), **_tokens()}


def _users() -> dict[str, Any]:
    users = {"application/json": {"schema": {"type": "array", "items": ref("AccountView")}}}
    return {
        "/users": {
            "get": {
                "summary": "users by name, for administrators",
                "parameters": [
                    parameter("name", "query", {"type": "string"}, "only the user with this name"),
                    LIMIT,
                    parameter("after", "query", {"type": "string"}, "only names after this one"),
                ],
                "responses": responses("the users", users, 400, 401, 403, 404, 503),
                "security": BEARER,
            },
            "post": call(
                "creates a user", "SignUpView", 400, 403, 409, 413, 415, 429, 503, body="UserBody", created=True
            ),
        },
        "/users/me": {"get": call("the caller", "OwnView", 401, 404, 503)},
        "/users/me/password": {
            "post": call(
                "another password, with the old one or a code; ends all sessions",
                "LoginView", *RESTRICTED_BODY, 409, 429, body="PasswordBody",
            ) | {"security": OPTIONAL}
        },
    }  # fmt: skip


def _administration() -> dict[str, Any]:
    return {
        "/users/{id}/roles": {
            "post": call(
                "gives a user these roles, for administrators",
                "AccountView", *RESTRICTED_BODY, body="RolesBody", secured=True, parameters=[_USER_ID],
            )
        },
        "/users/{id}/disable": {"post": _administer("ends a user's sessions, and keeps the user out", "AccountView")},
        "/users/{id}/enable": {"post": _administer("lets a user in again", "AccountView", 409)},
        "/users/{id}/erase": {"post": _administer("erases a user's account for ever", "AccountView")},
        "/users/{id}/reset": {"post": _administer("a code with which a user sets a new password", "CodeView", 409)},
        "/admin": {
            "post": call(
                "makes the caller the first administrator", "AccountView", *RESTRICTED_BODY, body="AdminBody"
            )
        },
        "/logout": {"post": call("ends the session of this token", "Nothing", 401, 403, 503)},
        **_keys(),
    }  # fmt: skip


def _keys() -> dict[str, Any]:
    keys = {"application/json": {"schema": {"type": "array", "items": ref("KeyView")}}}
    key_id = parameter("id", "path", {"type": "string", "pattern": "^[0-9a-f]{40}$"}, "the key's id")
    return {
        "/keys": {
            "get": {
                "summary": "the API keys of all programs, for administrators",
                "responses": responses("the keys", keys, 401, 403, 503),
                "security": BEARER,
            },
            "post": call(
                "makes an API key for a program, for administrators",
                "NewKeyView", *RESTRICTED_BODY, 409, body="KeyBody", created=True, secured=True,
            ),
        },
        "/keys/{id}/revoke": {
            "post": call(
                "makes an API key invalid, for administrators", "Nothing", 401, 403, 404, 503, parameters=[key_id]
            )
        },
    }  # fmt: skip


def _administer(summary: str, answer: str, *problems: int) -> dict[str, Any]:
    return call(f"{summary}, for administrators", answer, 400, 401, 403, 404, 503, *problems, parameters=[_USER_ID])


def _rights() -> dict[str, Any]:
    return {
        "/rights": {
            "get": {
                "summary": "what the caller may do with an event",
                "parameters": [parameter("event", "query", EVENT, "the event's name") | {"required": True}],
                "responses": responses("the rights", {"application/json": {"schema": ref("Rights")}}, 400, 401, 503),
                "security": OPTIONAL,
            }
        },
        "/rules/check": {
            "post": call(
                "what somebody may do, and which rule decides, for administrators",
                "CheckView", *RESTRICTED_BODY, body="CheckBody", secured=True,
            )
        },
    }  # fmt: skip


def _tokens() -> dict[str, Any]:
    return {
        "/login": {"post": call("a token", "LoginView", 400, 401, 413, 415, 429, 503, body="LoginBody", public=True)},
        "/token": {"post": call("another token, in place of one that has not expired", "LoginView", 401, 403, 503)},
        "/session": {
            "post": _session(),
            "delete": call("removes the cookie, from the pages of this server", "Nothing", public=True),
        },
    }


def _session() -> dict[str, Any]:
    """Its body may be left out."""
    session = call(
        "a cookie, or a ticket, with which a plain EventSource reads",
        "CookieView", 400, 401, 403, 413, 415, 503, body="SessionBody", secured=True,
    )  # fmt: skip
    session["requestBody"]["required"] = False
    content = session["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"anyOf": [ref("CookieView"), ref("TicketView")]}
    return session
