"""The page of docs/access.md: its rules are applied, and its code runs in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.support.documents import ROOT, blocks
from tests.support.rules import apply_rules
from tests.support.servers import BOUND_S, ServerProcess

ACCESS = (ROOT / "docs" / "access.md").read_text()


def test_a_page_with_a_token_shows_what_its_user_may_read(browser: Browser, origin: str, tmp_path: Path) -> None:
    (script,) = (block.text for block in blocks(ACCESS, "js"))
    with (
        ServerProcess(tmp_path, "--origin", origin, rights_reset_s=0.1) as server,
        server.client("ada") as ada,
        server.client("bob") as bob,
    ):
        apply_rules(server, blocks(ACCESS, "toml")[0].text)
        page = browser.new_page()
        page.goto(origin)
        page.add_script_tag(content=script.replace("http://127.0.0.1:8080", server.url))
        page.evaluate(
            """jwt => {
                window.shown = {};
                window.last = "";
                listen(jwt, (event, data) => {
                    if (event === "$reset") window.shown = {};
                    else if (!event.startsWith("$")) window.shown[event] = data;
                    window.last = event;
                });
            }""",
            bob.headers["Authorization"].removeprefix("Bearer "),
        )

        def shows(expected: dict[str, Any]) -> None:
            page.wait_for_function(
                "names => last !== '' && Object.keys(shown).sort().join() === names",
                arg=",".join(sorted(expected)), timeout=1_000 * BOUND_S, polling=20,
            )  # fmt: skip
            assert page.evaluate("shown") == expected

        def insert(client: Any, event: str, data: object) -> None:
            assert client.post("/insert", json={"event": event, "data": data}).status_code == 201

        insert(ada, "room/ada/garden/message/ada/1", "before")
        shows({})
        insert(ada, "room/ada/garden/member/bob", True)
        room = {"room/ada/garden/member/bob": True, "room/ada/garden/message/ada/1": "before"}
        shows(room)
        insert(bob, "room/ada/garden/message/bob/1", {"text": "zwölf\n\nevent: no"})
        shows(room | {"room/ada/garden/message/bob/1": {"text": "zwölf\n\nevent: no"}})
        insert(ada, "room/ada/garden/member/bob", None)
        shows({})
        insert(ada, "direct/bob/ada/1", "psst")
        shows({"direct/bob/ada/1": "psst"})
        assert bob.post("/logout").status_code == 200
        page.wait_for_function("window.last === '$login'", timeout=1_000 * BOUND_S, polling=20)
        page.close()
