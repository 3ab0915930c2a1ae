"""The files of the client, as the server sends them. What the client does is tested in tests/js and tests/browser."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.support.documents import ROOT
from tests.support.esbuild import bundled, minified, needs_esbuild
from tests.support.servers import ServerProcess
from tests.support.sources import copy_sources

SOURCES = ROOT / "src" / "broker" / "js"
MODULES = sorted(file.name for file in SOURCES.glob("*.js"))
SERVED_BYTES_MAX = 23_000  # of all that a page with a form needs, as a browser receives it
LOADED = ["broker.js", "forms.js"]  # the latter with the first form
SERVED = [*LOADED, "react.js"]


def version(client: httpx.Client) -> str:
    return str(re.findall(r'"\./broker/(\w+)/broker\.js"', client.get("/broker.js").text)[0])


def test_the_entry_names_the_module_and_is_asked_for_again_after_a_minute(ada: httpx.Client) -> None:
    answer = ada.get("/broker.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=60, stale-while-revalidate=2592000"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "import.meta.url" in answer.text


@pytest.mark.parametrize("name", SERVED)
def test_a_module_is_kept_forever(ada: httpx.Client, name: str) -> None:
    answer = ada.get(f"/broker/{version(ada)}/{name}")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_page_of_another_version_gets_this_one_and_does_not_keep_it(ada: httpx.Client) -> None:
    """Behind a cache, or beside a node that is not updated yet, a page may ask for the files of another version."""
    answer = ada.get("/broker/0123456789abcdef/broker.js")
    assert answer.text == ada.get(f"/broker/{version(ada)}/broker.js").text
    assert answer.headers.get_list("cache-control") == ["no-cache"]


@pytest.mark.parametrize("path", ["/broker/0123456789abcdef/none.js", "/broker/{}/none.js", "/broker/{}/..%2fapp.py"])
def test_another_file_is_not_there(ada: httpx.Client, path: str) -> None:
    answer = ada.get(path.format(version(ada)))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "https://elsewhere.example"])
def test_pages_of_every_origin_may_load_it(ada: httpx.Client, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    for path in ("/broker.js", f"/broker/{version(ada)}/broker.js", "/broker.d.ts"):
        answer = ada.get(path, headers=headers)
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert answer.headers["vary"] == "Accept-Encoding"


def test_it_is_compressed_for_those_who_accept_it(ada: httpx.Client) -> None:
    plain = ada.get("/broker.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = ada.get("/broker.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text


@needs_esbuild
@pytest.mark.parametrize("name", LOADED)
def test_a_page_receives_all_that_the_modules_say_but_comments_in_one_file(
    ada: httpx.Client, tmp_path: Path, name: str
) -> None:
    sent = tmp_path / name
    sent.write_text(ada.get(f"/broker/{version(ada)}/{name}").text)
    assert not re.search(r"^import\b(?!\()", sent.read_text(), re.MULTILINE)
    assert bundled(sent, "./forms.js") == bundled(SOURCES / name, "./forms.js")


@needs_esbuild
def test_a_page_with_react_receives_all_that_the_module_says_but_comments(ada: httpx.Client) -> None:
    sent = ada.get(f"/broker/{version(ada)}/react.js").text
    assert re.findall(r'^import ?.* ?from "(.*)";$', sent, re.MULTILINE) == ["react", "./broker.js"]
    assert minified(sent) == minified((SOURCES / "react.js").read_text())


def test_what_a_page_needs_is_small(ada: httpx.Client) -> None:
    paths = {"/broker.js", *(f"/broker/{version(ada)}/{name}" for name in LOADED)}
    sizes = {path: len(gzip.compress(ada.get(path).content)) for path in paths}
    assert sum(sizes.values()) <= SERVED_BYTES_MAX, sizes


def test_the_types_are_those_of_the_package(server: ServerProcess) -> None:
    with server.client() as nobody:
        answer = nobody.get("/broker.d.ts")
    assert answer.text == (SOURCES / "types.d.ts").read_text()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_package_of_npm_has_the_version_of_the_server() -> None:
    from broker import __version__

    assert f'"version": "{__version__}"' in (SOURCES / "package.json").read_text()


def test_the_files_are_in_the_wheel_and_in_the_source_distribution(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=copy_sources(tmp_path / "copy"), check=True, capture_output=True)
    others = ["types.d.ts", "react.d.ts", "preload.d.ts", "package.json", "llms.txt"]
    expected = {f"broker/js/{name}" for name in [*MODULES, *others]}
    (wheel,) = tmp_path.glob("*.whl")
    assert expected <= set(zipfile.ZipFile(wheel).namelist())
    (sources,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        assert expected <= {name.partition("/src/")[2] for name in archive.getnames()}


def test_the_guide_for_coding_agents_is_short_and_names_all_that_the_client_has(server: ServerProcess) -> None:
    with server.client() as nobody:
        answer = nobody.get("/llms.txt")
    assert answer.text == (SOURCES / "llms.txt").read_text()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(answer.text.splitlines()) <= 90
    contract = re.sub(r"/\*\*.*?\*/", "", (SOURCES / "types.d.ts").read_text(), flags=re.DOTALL)
    for name in ("Event", "Collection", "Schedule", "Outbox", "Broker", "Options", "WriteOptions"):
        (body,) = re.findall(rf"^export interface {name}\b[^{{]*\{{\n(.*?)^\}}", contract, re.MULTILINE | re.DOTALL)
        for member in re.findall(r"^  (?:readonly )?(\w+)[?(<:]", body, re.MULTILINE):
            if member not in ("name", "prefix", "url", "position"):
                assert re.search(rf"\b{member}\b", answer.text), f"{name}.{member}"


def test_the_package_is_the_one_that_npm_would_make(server: ServerProcess, tmp_path: Path) -> None:
    with server.client() as nobody:
        answer = nobody.get("/broker.tgz")
        assert nobody.get("/broker.tgz").content == answer.content
    assert answer.headers["content-type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        members = archive.getmembers()
        files = {each.name.removeprefix("package/"): archive.extractfile(each) for each in members}
        assert {name: file.read() for name, file in files.items() if file} == {
            each.name: each.read_bytes() for each in SOURCES.iterdir()
        }
    assert [each.name for each in members] == sorted(each.name for each in members)
    assert {(each.mtime, each.mode, each.uname) for each in members} == {(0, 0o644, "")}
    assert answer.content[4:8] == b"\0\0\0\0"  # the time in the header of gzip
    if npm := shutil.which("npm"):
        listed = subprocess.run(
            [npm, "pack", "--dry-run", "--json", str(SOURCES)], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        (packed,) = json.loads(listed.stdout)
        assert {each["path"] for each in packed["files"]} == files.keys()
