"""`/openapi.json` describes what the server does, and `/docs` shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from playwright.sync_api import Browser

from broker.web.app import create_app
from broker.web.requests import Methods
from tests.support.postgres import options_of
from tests.support.servers import ServerProcess

DOCS = Path(__file__).parent.parent.parent / "docs"
ASSETS = DOCS.parent / "src" / "broker" / "web" / "assets"
RUN_S = 12  # of a run that ends when its time does
# What breaks the schema in a query may be sent as something that is allowed: null is the name of an event then, and an
# empty list is no parameter at all.
LISTS = "\n".join(
    f"[[operations]]\ninclude-path = '{path}'\nchecks.negative_data_rejection.enabled = false"
    for path in ("/snapshot", "/pending")
)


@pytest.fixture(scope="module")
def spec(ada: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = ada.get("/openapi.json").json()
    return document


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own: what is fuzzed holds nothing that another test would miss."""
    with ServerProcess(tmp_path_factory.mktemp("fuzzed"), *options_of(request.param, request)) as running:
        yield running


def made(program: str, given: str = "") -> str:
    """What a program of docs/ prints."""
    return subprocess.run(
        [sys.executable, DOCS / program], input=given, capture_output=True, text=True, check=True
    ).stdout


def page(spec: dict[str, Any]) -> str:
    return made("make_page.py", json.dumps(spec))


def test_the_document_and_the_page_are_what_the_source_says() -> None:
    document = made("make_openapi.py")
    assert document == (ASSETS / "openapi.json").read_text(), "type: make docs"
    assert made("make_page.py", document) == (ASSETS / "docs.html").read_text(), "type: make docs"


def test_the_page_shows_the_type_or_the_values_of_a_field(spec: dict[str, Any]) -> None:
    html = page(spec)
    assert "<td><code>publish</code> or <code>refuse</code> or null: " in html
    assert "<td>RecordView or Receipt or null: " in html


def test_the_document_is_openapi_3_1(spec: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(spec)
    schema.validate()
    assert spec["openapi"].startswith("3.1.")
    assert len(list(schema.get_all_operations())) == sum(len(methods) for methods in spec["paths"].values())


def test_every_route_and_method_is_in_the_document(spec: dict[str, Any], tmp_path: Path) -> None:
    documented = {(method.upper(), path) for path, methods in spec["paths"].items() for method in methods}
    served = set()
    for route in create_app().routes:
        assert isinstance(route.app, Methods)
        served |= {(method, route.path.replace(":path", "")) for method in route.app.endpoints}
    # HEAD is GET without the body; /cancel is there to say that the uuid is missing.
    assert {each for each in served if each[0] != "HEAD" and each[1] != "/cancel"} == documented


def test_a_batch_is_an_array_or_lines_and_an_array_comes_back(spec: dict[str, Any]) -> None:
    call = spec["paths"]["/insert"]["post"]
    array, lines = call["requestBody"]["content"].items()
    body, cancel, record = (
        {"$ref": f"#/components/schemas/{name}"} for name in ("InsertBody", "CancelBody", "RecordView")
    )
    many = {"type": "array", "items": {"anyOf": [body, cancel]}, "minItems": 1}
    assert array == ("application/json", {"schema": {"oneOf": [body, many]}})
    assert lines[0] == "application/x-ndjson"
    for status in ("200", "201"):
        answers = call["responses"][status]["content"]["application/json"]["schema"]["anyOf"]
        assert [each for each in answers if each.get("items") == record]
    assert "index" not in spec["components"]["schemas"]["Problem"]["required"]
    assert '<a href="#InsertBody">InsertBody</a> or array of <a href="#InsertBody">InsertBody</a>' in page(spec)


def test_the_server_does_what_the_document_says(fuzzed: ServerProcess) -> None:
    with fuzzed.client("fuzz") as client:
        token = client.headers["Authorization"]
    (fuzzed.data / "schemathesis.toml").write_text(LISTS)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{fuzzed.url}/openapi.json"),
            *("--exclude-path", "/events"),  # it never ends
            *("--exclude-path", "/logout"),  # it ends the session of the token that is used for everything
            # What a schema cannot say is refused as well: a uuid that is unknown, a name with too many bytes.
            *("--exclude-checks", "positive_data_acceptance"),
            *("--phases", "coverage,fuzzing", "--max-time", str(RUN_S), "--seed", "1", "--no-shrink"),
            *("--continue-on-failure", "-H", f"Authorization: {token}"),
        ],
        cwd=fuzzed.data,  # it leaves its cache where it runs
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert not [line for line in fuzzed.log if "ERROR" in line or "CRITICAL" in line]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_screen_and_loads_nothing_else(server: ServerProcess, browser: Browser, width: int) -> None:
    asked: list[str] = []
    with browser.new_page(viewport={"width": width, "height": 800}) as tab:
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{server.url}/docs")
        tab.click("text=creates a user")
        tab.click("text=UserBody >> nth=0")
        tab.wait_for_selector("table#UserBody", state="visible")
        assert not tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert {url for url in asked if not url.endswith("/favicon.ico")} <= {
        f"{server.url}/docs",
        f"{server.url}/docs#UserBody",
    }


def test_the_page_has_every_call_and_type_and_escapes_them(spec: dict[str, Any]) -> None:
    spec["info"]["description"] = "<script>"
    html = page(spec)
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    for path, methods in spec["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in html
    for name in spec["components"]["schemas"]:
        assert f'id="{name}"' in html
