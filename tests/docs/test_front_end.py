"""What docs/front-end.md shows works: its page, its samples in a browser, and their types."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.documents import README, ROOT, blocks, section
from tests.support.servers import BOUND_S, ServerProcess
from tests.support.typescript import STRICT, compiled, install, needs_react, needs_typescript

TEXT = (ROOT / "docs" / "front-end.md").read_text()
TYPES = ROOT / "src" / "broker" / "js" / "types.d.ts"
TEN, FIELDS, FORM, POLICY = (block.text for block in blocks(TEXT, "html"))
SCRIPTS = [block.text for block in blocks(TEXT, "js")]
IN_A_PAGE = [script for script in SCRIPTS if "zerocode-broker" not in script]
# What the samples take for granted: the client, and elements with ids.
ELEMENTS = '<p id="text" role="status"></p><p id="count"></p><ul id="list"></ul>'
GIVEN = """
import type { Broker } from "zerocode-broker";
declare global {
  const broker: Broker;
  const text: HTMLElement, count: HTMLElement, list: HTMLElement;
  interface ImportMeta { env: { DEV: boolean }; hot?: { data: { broker?: Broker } } }
  interface BrokerEvents {
    sale: { percent: number; note?: string };
    "seat/7": { who: string };
    [name: `orders/${string}`]: { item: string; qty: number };
  }
}
"""
expect.set_options(timeout=20_000)


@pytest.fixture(name="served", scope="module")
def make_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("site")
    policy = POLICY.strip()
    (folder / "index.html").write_text(TEN)
    (folder / "fields.html").write_text(f'<!doctype html><link rel="icon" href="data:,">{FIELDS}')
    (folder / "form.html").write_text(f'<!doctype html><link rel="icon" href="data:,">{FORM}')
    setup = 'import { createBroker } from "/broker.js";\nglobalThis.broker = createBroker();\n'
    (folder / "samples.html").write_text(f"{ELEMENTS}<script type=module>{setup}</script>")
    (folder / "policy.html").write_text(f'{policy}<p role="status"></p><script type="module" src="policy.js"></script>')
    shows = 'document.querySelector("p").textContent = broker.status.get();'
    (folder / "policy.js").write_text(
        f"{setup}broker.event('sale').subscribe(() => {{}});\nbroker.status.subscribe(() => {{ {shows} }});\n"
    )
    with ServerProcess(tmp_path_factory.mktemp("data"), "--static", str(folder)) as server:
        yield server


@pytest.fixture(name="page")
def make_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def test_the_page_of_ten_lines_is_that_of_the_readme_and_of_the_example() -> None:
    example = (ROOT / "examples" / "plain" / "index.html").read_text().splitlines(keepends=True)
    assert "".join(line for line in example if "stylesheet" not in line and "<small>" not in line) == TEN
    assert TEN in {block.text for block in blocks(README, "html")}
    assert len(TEN.splitlines()) <= 10


def test_the_readme_names_the_bytes_that_the_tests_hold() -> None:
    for file, name in (("js/test_js.py", "CORE_BYTES_MAX"), ("web/test_client.py", "SERVED_BYTES_MAX")):
        (most,) = re.findall(rf"^{name} = ([\d_]+)", (ROOT / "tests" / file).read_text(), re.MULTILINE)
        assert f"{math.ceil(int(most) / 1_000)} kB" in section(README, "In a page"), f"the README has another {name}"


def test_the_page_of_ten_lines_shows_what_it_writes_while_the_server_is_stopped(
    page: Page, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(TEN)
    other = browser.new_page()
    with ServerProcess(tmp_path / "data", "--static", str(tmp_path / "site"), retry_ms=200) as server:
        page.goto(server.url)
        page.wait_for_function("!!more.onclick")
        other.goto(server.url)
        page.get_by_role("button").click()
        expect(other.get_by_role("status")).to_have_text("1 % off")
        server.stop()
        page.get_by_role("button").click()
        assert page.get_by_role("status").text_content() == "2 % off"
        server.start()
        expect(other.get_by_role("status")).to_have_text("2 % off")
    other.close()


def test_the_page_of_ten_lines_keeps_what_is_written_before_its_guest_exists(
    page: Page, browser: Browser, served: ServerProcess
) -> None:
    held: list[Route] = []
    page.route("**/users", lambda route: held.append(route))
    other = browser.new_page()
    other.goto(served.url)
    with page.expect_request("**/users"):
        page.goto(served.url)
    page.get_by_role("button").click()
    text = page.get_by_role("status").text_content() or ""
    assert text.endswith("% off")
    held[0].continue_()
    expect(other.get_by_role("status")).to_have_text(text)
    other.close()


def test_the_samples_run_one_after_the_other(page: Page, served: ServerProcess) -> None:
    page.goto(f"{served.url}/samples.html")
    page.wait_for_function("!!globalThis.broker")
    page.evaluate("broker.signUp('guest', 'correct horse').then(() => {})")
    warnings: list[str] = []
    page.on("console", lambda each: warnings.append(each.text) if each.type in ("warning", "error") else None)
    page.on("dialog", lambda dialog: dialog.accept())
    for number, script in enumerate(IN_A_PAGE):
        page.evaluate(
            """([script, number]) => new Promise((resolve, reject) => {
              const element = document.createElement("script");
              element.type = "module";
              element.textContent = `${script}\\nglobalThis.done = ${number};`;
              addEventListener("error", (event) => reject(event.error));
              document.body.append(element);
              const timer = setInterval(() => globalThis.done === number && (clearInterval(timer), resolve()), 5);
            })""",
            [script, number],
        )
    assert [each for each in warnings if "409" not in each] == []
    with served.client("ada") as ada:
        sales = [record["data"] for record in ada.get("/collections/sale").json() if record["published"]]
        assert {"percent": 20} in sales
        assert {"percent": 21, "note": "until we are sold out"} in sales
        state = {record["event"]: record["data"] for record in ada.get("/snapshot").json()}
        assert {"item": "tea", "qty": 2} in state.values()
        assert "orders/42" not in state
        assert state["seat/7"] == {"who": "ada"}


def test_the_fields_of_a_form_follow_but_for_the_one_that_somebody_is_typing_in(
    page: Page, browser: Browser, served: ServerProcess
) -> None:
    page.goto(f"{served.url}/form.html")
    sign_up = "({ createBroker }) => createBroker().signUp('writer', 'correct horse')"
    page.evaluate(f"import('/broker.js').then({sign_up}).then(() => {{}})")
    page.goto(f"{served.url}/fields.html")
    other = page.context.new_page()
    other.goto(f"{served.url}/fields.html")
    other.get_by_label("First name").fill("Ad")
    page.get_by_label("First name").fill("Rusty")
    page.get_by_label("Last name").fill("Nail")
    page.get_by_label("Last name").press("Tab")
    expect(other.get_by_label("Last name")).to_have_value("Nail")
    assert other.get_by_label("First name").input_value() == "Ad"
    other.get_by_label("First name").press("Tab")  # it is a conflict, so that neither loses what was typed
    other.get_by_label("Last name").fill("Lovelace")
    other.get_by_label("Last name").press("Tab")
    expect(page.get_by_label("Last name")).to_have_value("Lovelace")
    assert page.get_by_label("First name").input_value() == "Rusty"
    assert other.get_by_label("First name").input_value() == "Ad"
    other.close()


def test_the_form_logs_in_and_says_why_it_cannot(page: Page, served: ServerProcess) -> None:
    served.token("bob")
    page.goto(f"{served.url}/form.html")
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button").click()
    expect(page.get_by_role("button")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("button")).to_be_hidden()


def test_the_client_works_under_the_policy_that_is_recommended(page: Page, served: ServerProcess) -> None:
    page.goto(f"{served.url}/policy.html")
    expect(page.get_by_role("status")).to_have_text("live")
    assert "Trusted" in page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (e) { return e.message; } })()"
    )


@needs_typescript
@needs_react
def test_the_samples_have_the_types_that_they_say(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "given.d.ts").write_text(GIVEN)
    files = ["given.d.ts"]
    for number, block in enumerate(blocks(TEXT, "js", "ts", "tsx")):
        (name,) = re.findall(r"^export function (\w+)", block.text, re.MULTILINE)[:1] or [str(number)]
        files.append(f"{name}.{block.language}")
        (tmp_path / files[-1]).write_text(f"{block.text}\nexport {{}};\n")
    assert compiled(tmp_path, *STRICT, "--allowJs", "--checkJs", *files) == ""


USE = """
import { createBroker } from "/broker.js";
const broker = createBroker();
const sale = broker.event("sale"), orders = broker.events("orders/");
sale.get()?.percent.toFixed();
sale.patch({ note: null });
orders.add({ item: "tea", qty: 1 }).key.length;
orders.get().get("1")?.qty.toFixed();
broker.event("orders/77").update((order) => ({ item: order?.item ?? "tea", qty: 2 }));
/** @type {unknown} */
const other = broker.event("other").get();
console.log(other);
// @ts-expect-error a field that there is not
sale.get()?.prcent;
// @ts-expect-error the value may not be there
sale.get().percent;
// @ts-expect-error another type
sale.set({ percent: "20" });
// @ts-expect-error an unknown field of a patch
sale.patch({ prcent: 1 });
// @ts-expect-error a field is missing
orders.add({ item: "tea" });
// @ts-expect-error another type in a collection
orders.set("1", { item: "tea", qty: "1" });
// @ts-expect-error a number has no such method
orders.get().get("1")?.qty.trim();
// @ts-expect-error an update to another type
broker.event("orders/77").update(() => ({ item: 1, qty: 2 }));
// @ts-expect-error nothing is known of this event
broker.event("other").get().length;
"""


@needs_typescript
def test_a_page_without_a_build_has_the_types_of_a_real_server(served: ServerProcess, tmp_path: Path) -> None:
    """The files are those that the page names; the events are those that a server has."""
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as ada:
        for event, data in (
            ("sale", {"percent": 20}), ("sale", {"percent": 20, "note": "x"}),
            ("orders/1", {"item": "tea", "qty": 1}), ("orders/2", {"item": "cake", "qty": 2}),
        ):  # fmt: skip
            ada.post("/insert", json={"event": event, "data": data}).raise_for_status()
        site = tmp_path / "site"
        site.mkdir()
        (site / "events.d.ts").write_text(ada.get("/types.d.ts").text)
        (site / "broker-client.d.ts").write_text(ada.get("/broker.d.ts").text)
    (config,) = (block.text for block in blocks(TEXT, "json"))
    (site / "jsconfig.json").write_text(config)
    (site / "page.js").write_text(USE)
    assert compiled(tmp_path, "--project", "site/jsconfig.json") == ""


def test_the_commands_that_prepare_a_page_are_those_of_the_makefile() -> None:
    commands = [line for block in blocks(TEXT, "sh") for line in block.text.splitlines()]
    assert commands[:2] == ["make .venv/.runs", ".venv/bin/broker serve --static site"]
    done = subprocess.run(["make", "--dry-run", ".venv/.runs"], cwd=ROOT, capture_output=True, timeout=BOUND_S)
    assert done.returncode == 0
