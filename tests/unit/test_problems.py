"""Errors as HTTP has them, without a server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from broker import errors
from broker.settings import Settings
from broker.web.app import create_app
from broker.web.middleware import Problems
from broker.web.problems import problem_of

pytestmark = pytest.mark.anyio


async def _call(app: ASGIApp, path: str) -> tuple[int, dict[str, object]]:
    """One GET within this process."""
    messages: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        messages.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "", "headers": [],
        "query_string": b"", "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    await app(scope, receive, send)
    status, body = messages[0]["status"], messages[1]["body"]
    assert isinstance(status, int)
    assert isinstance(body, bytes)
    return status, json.loads(body)


@pytest.mark.parametrize("path", ["/healthz", "/collections/a", "/nothing"])
async def test_an_app_that_was_not_started_says_so(tmp_path: Path, path: str) -> None:
    status, body = await _call(create_app(Settings(data=tmp_path)), path)
    assert status == 503
    assert "must enter broker.lifespan" in str(body["detail"])


def test_every_error_has_a_code_a_status_and_a_title_of_its_own() -> None:
    sent = [each for each in errors.BrokerError.__subclasses__() if each is not errors.SettingsError]
    assert len({each.code for each in sent}) == len({each.status for each in sent}) == len(sent)
    assert len({each.title for each in sent}) == len(sent)


async def test_the_log_gets_no_control_characters_of_a_path(caplog: pytest.LogCaptureFixture) -> None:
    """A terminal that shows the log would obey them."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError

    await _call(Problems(broken, Counter()), "/collections/\x9b31m\x7f")
    assert r"GET '/collections/\x9b31m\x7f' failed" in caplog.messages


def test_of_an_unknown_error_nothing_is_told() -> None:
    told = problem_of(KeyError(f"secret {uuid4()}"))
    assert (told.status, "secret" in told.detail) == (500, False)
