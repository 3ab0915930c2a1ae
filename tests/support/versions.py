"""Versions of events as the tests of the console insert and read them: as JSON text, so that no number is rewritten.
And what the screen of an event shows."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.support.console import Console
from tests.support.servers import ServerProcess

NAME = "shop/orders/42"
# Numbers that JavaScript cannot express, or writes in another way.
EXACT = '{"price":1.0,"id":12345678901234567890,"tiny":1e-7,"text":"\\u0041\\/"}'
HOSTILE = [
    "a'b\"c\\d",
    "to $(id) `id` ${x} %s",
    "</script><script>window.hacked=1</script>",
    "\"><img src=x onerror=window.hacked=1>",
    "é 😀/\u202eabc-- ?&#%",
]  # fmt: skip


def route(name: str, tab: str = "") -> str:
    return f"#/event/{quote(name, safe='')}" + (f"/{tab}" if tab else "")


def insert(console: Console, username: str, data: str, name: str = NAME, **more: Any) -> dict[str, Any]:
    """Inserts JSON text as this user."""
    body = f'{{"event":{json.dumps(name)},"data":{data}'
    body += "".join(f',"{key}":{json.dumps(value)}' for key, value in more.items()) + "}"
    with client_of(console.server, username) as client:
        response = client.post("/insert", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 201, response.text
    return dict(response.json())


def snapshot(console: Console, name: str = NAME, username: str = "ada") -> str:
    """The state of an event, as the server sends it."""
    with client_of(console.server, username) as client:
        return client.get("/snapshot", params={"event": name}).text


def versions(console: Console, name: str = NAME) -> list[Any]:
    with client_of(console.server, "ada") as client:
        return list(client.get(f"/collections/{quote(name, safe='')}").json())


def editor(page: Page) -> Locator:
    return page.get_by_label("Data (JSON)")


def state(page: Page) -> Locator:
    return page.locator(".event-state")


def confirm(page: Page, button: str, *shown: str) -> None:
    """Answers the question that is asked, in which these texts are."""
    dialog = page.get_by_role("dialog")
    for text in shown:
        expect(dialog).to_contain_text(text)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_have_count(0)


_tokens: WeakKeyDictionary[ServerProcess, dict[str, str]] = WeakKeyDictionary()


def client_of(server: ServerProcess, username: str) -> httpx.Client:
    """A client with the token of this user, who logs in once: to hash a password takes a while."""
    tokens = _tokens.setdefault(server, {})
    if username not in tokens:
        tokens[username] = server.token(username)
    return httpx.Client(base_url=server.url, timeout=20, headers={"Authorization": f"Bearer {tokens[username]}"})
