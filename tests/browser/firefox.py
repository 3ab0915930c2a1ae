"""Forms in Firefox (Debian: apt install firefox-esr): `make soak ARGS=--forms` runs these."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest

from tests.support.firefox import Firefox
from tests.support.forms import KEYS_A_SECOND, text
from tests.support.servers import ServerProcess

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")


@pytest.fixture(name="firefox", scope="module")
def make_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    assert PROGRAM, "there is no Firefox: install it (Debian: apt install firefox-esr)"
    with Firefox(PROGRAM, tmp_path_factory.mktemp("profile")) as firefox:
        yield firefox


@pytest.mark.parametrize(
    ("selector", "path", "typed"),
    [
        ("[name=text]", "text", text()),
        ("textarea", "note", text()),
        ("[name='address.city']", "address.city", text()),
        ("[type=number]", "number", "12345678"),
        ("[type=email]", "email", "somebody@example.org"),
    ],
)
def test_what_is_typed_is_kept_while_another_program_changes_the_same_field(
    firefox: Firefox, form_server: ServerProcess, selector: str, path: str, typed: str
) -> None:
    firefox.open(form_server.url)
    firefox.waits("globalThis.state?.status === 'live'")
    ended = threading.Event()

    def write() -> None:
        with form_server.client("other") as other:
            count = 0
            while not ended.wait(1 / KEYS_A_SECOND):
                count += 1
                data = {"text": f"{count}", "note": f"{count}", "address": {"city": f"{count}"}, "number": count}
                other.post("/insert", json={"event": "profile", "data": {**data, "email": f"{count}@x.y"}})

    firefox.evaluate(f'document.querySelector("{selector}").select()')
    first, rest = typed[0], typed[1:]
    firefox.keys(first, 0)
    firefox.waits(f"!!state.fields[{path!r}]?.edited")
    begun = firefox.evaluate(f'document.querySelector("{selector}").value')
    writer = threading.Thread(target=write)
    writer.start()
    try:
        firefox.keys(rest, 1_000 / KEYS_A_SECOND)
    finally:
        ended.set()
        writer.join()
    assert firefox.evaluate(f'document.querySelector("{selector}").value') == begun + rest
    firefox.waits(f"!!state.fields[{path!r}]?.conflict")
    firefox.evaluate(f"form.keep({path!r})")
    firefox.waits("state.saved")
    shown = f"{path!r}.split('.').reduce((value, key) => value[key], broker.event('profile').get())"
    assert str(firefox.evaluate(shown)) == begun + rest
