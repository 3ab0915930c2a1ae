"""The console as the server sends it: its page, its files and their headers, where it is on; and ``GET /about``. What
the console does is tested in tests/browser."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from broker import __version__
from broker.errors import SettingsError
from broker.settings import Settings
from broker.web.console import console_path
from broker.web.modules import stripped, without_comments
from tests.support.documents import ROOT
from tests.support.esbuild import ESBUILD, compact, needs_esbuild
from tests.support.hosts import STARLETTE, HostProcess
from tests.support.postgres import options_of
from tests.support.rules import WIDE, apply_rules
from tests.support.servers import ServerProcess, wait_for

SOURCES = ROOT / "src" / "broker" / "console"
CLIENT = ROOT / "src" / "broker" / "js"
MODULES = sorted(file for file in SOURCES.glob("*.js"))
FIRST_VIEW_BYTES_MAX = 40_000  # of all that the page names, as a browser receives it
FIRST_VIEW_REQUESTS_MAX = 12
REQUESTS_OF_THE_SCRIPT = 3  # the state of the table, a stream of it, and that of the client
NAVIGATES = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*;q=0.8"}
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}  # fmt: skip
_IMPORT = re.compile(r'^import ?\{ ?(.*?) ?\} ?from "(\.{1,2}/.*)";$', re.MULTILINE)
_LATER = re.compile(r'(?<!\{)\bimport\("\./([\w.]+)"\)')


class Served:
    """The page, and the files that it needs at first and later."""

    def __init__(self, client: httpx.Client, path: str = "/") -> None:
        self.page = client.get(path)
        self.url = str(self.page.url)
        self.names = re.findall(r'<(?:link|script)[^>]* (?:href|src)="(?!data:)([^"]+)"', self.page.text)
        self._client = client
        self.client_js = next(name for name in self.names if name.endswith("/broker.js"))
        main = next(name for name in self.names if name.endswith("/main.js"))
        self.folder = main.removesuffix("main.js")
        self.modules = {"main.js": self.get(main).text}
        waiting = ["main.js"]
        while waiting:
            for name in _LATER.findall(self.modules[waiting.pop()]):
                if name not in self.modules:
                    self.modules[name] = self.get(self.folder + name).text
                    waiting.append(name)

    def get(self, name: str, **headers: str) -> httpx.Response:
        answer = self._client.get(urljoin(self.url, name), headers=headers)
        assert answer.status_code == 200, name
        return answer


@pytest.fixture(name="served", scope="module")
def get_served(ada: httpx.Client) -> Served:
    return Served(ada)


# The page


@pytest.mark.parametrize("path", ["/", "/$console"])
@pytest.mark.parametrize("headers", [{}, NAVIGATES])
def test_the_page_is_the_same_for_everybody_and_asked_for_again(
    server: ServerProcess, path: str, headers: dict[str, str]
) -> None:
    with server.client() as stranger:
        answer = stranger.get(path, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("cache-control") == ["no-cache"]
    assert answer.text.startswith("<!doctype html>")
    assert "{" not in answer.text  # no placeholder is left


def test_the_page_runs_its_own_files_alone_and_stands_in_no_frame(served: Served) -> None:
    headers = served.page.headers
    assert set(headers["content-security-policy"].split("; ")) == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert not re.search(
        r"<script(?![^>]* src=)|<style|\bstyle=|\bon\w+=|://(?!www\.w3\.org/2000/svg)", served.page.text
    )


def test_the_page_names_all_that_it_needs_at_first(served: Served) -> None:
    version = re.findall(r"^\$console/([0-9a-f]{16})/$", served.folder)[0]
    client = re.findall(r"^broker/([0-9a-f]{16})/broker\.js$", served.client_js)[0]
    files = [f"broker/{client}/broker.js", f"$console/{version}/console.css", f"$console/{version}/main.js"]
    assert sorted(served.names) == sorted([*files, "about"])
    # The address by which the module imports the client is the one that the page names: it is loaded once.
    assert {path for _, path in _IMPORT.findall(served.modules["main.js"])} == {f"../../broker/{client}/broker.js"}


def test_the_first_view_is_small(served: Served) -> None:
    answers = {name: served.get(name) for name in ["", *served.names]}
    sizes = {name: len(gzip.compress(answer.content)) for name, answer in answers.items()}
    assert sum(sizes.values()) <= FIRST_VIEW_BYTES_MAX, sizes
    assert len(sizes) + REQUESTS_OF_THE_SCRIPT <= FIRST_VIEW_REQUESTS_MAX


# Its files


@pytest.mark.parametrize(("name", "kind"), [("main.js", "text/javascript"), ("console.css", "text/css")])
def test_a_file_is_kept_forever(served: Served, name: str, kind: str) -> None:
    answer = served.get(served.folder + name)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Accept-Encoding" in answer.headers["vary"]
    plain, packed = (served.get(served.folder + name, **{"Accept-Encoding": coding}) for coding in ("identity", "gzip"))
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert plain.text == packed.text


def test_a_page_of_another_version_gets_this_one_and_does_not_keep_it(ada: httpx.Client, served: Served) -> None:
    answer = ada.get("/$console/0123456789abcdef/main.js")
    assert answer.text == served.modules["main.js"]
    assert answer.headers.get_list("cache-control") == ["no-cache"]


@pytest.mark.parametrize("name", ["none.js", "h.js", "types.d.ts", "..%2fapp.py", "index.html", ""])
def test_another_file_is_not_there(ada: httpx.Client, served: Served, name: str) -> None:
    assert ada.get(f"/{served.folder}{name}").status_code == 404


@needs_esbuild
def test_every_style_sheet_is_loaded_with_the_page_or_with_its_screen(served: Served) -> None:
    screens = {name for text in served.modules.values() for name in re.findall(r'\bstyled\("(\w+)"', text)}
    sent = {name: served.get(f"{served.folder}{name}.css").text for name in ("console", *screens)}
    assert sent["console"].startswith(without_comments((SOURCES / "style.css").read_text()).strip())
    for sheet in SOURCES.glob("*.css"):
        text = sheet.read_text()
        assert compact(without_comments(text), "css") == compact(text, "css")
        where = [name for name, all_of_it in sent.items() if without_comments(text).strip() in all_of_it]
        assert where == ([sheet.stem] if sheet.stem in screens else where[:1]), sheet.name
        assert where, sheet.name


@needs_esbuild
@pytest.mark.parametrize(
    "module", [*MODULES, *sorted(CLIENT.glob("*.js"))], ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_what_is_not_sent_of_a_module_is_comments_and_white_space(module: Path) -> None:
    """And not, for example, a line of a text that begins with `//`, or the space in a template of a template."""
    text = module.read_text()
    assert compact(stripped(text)) == compact(text)


@needs_esbuild
def test_strings_templates_and_regular_expressions_are_sent_as_they_are() -> None:
    text = """// A comment
    const a = `1  // ${ b ? `in (${ { c : "}  {" }.c }) ${ d }` : " // ` " }  } ` + e;
    const f = g . replace( /[/*] "/g , '`' ) / 2; // `
    const h = `\\` ${ i }  \\${ j } $ { k } $`;
    """
    sent = stripped(text)
    assert sent == (
        """const a=`1  // ${ b ? `in (${ { c : "}  {" }.c }) ${ d }` : " // ` " }  } ` + e;\n"""
        """const f=g . replace( /[/*] "/g,'`')/ 2;\nconst h=`\\` ${ i }  \\${ j } $ { k } $`;\n"""
    )
    assert compact(sent) == compact(text)


def body(source: str) -> str:
    """What is sent of a module."""
    return re.sub(r"^export ", "", stripped(_IMPORT.sub("", source)), flags=re.MULTILINE).strip()


@pytest.fixture(name="imports", scope="module")
def find_imports(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, set[Path]]:
    """What each module imports at once, and not only when it is needed, as esbuild finds it."""
    folder = tmp_path_factory.mktemp("esbuild")
    command = [
        str(ESBUILD), str(SOURCES / "main.js"), "--bundle", "--format=esm", f"--metafile={folder / 'meta.json'}",
        f"--outfile={folder / 'out.js'}", "--external:../js/broker.js",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    inputs = json.loads((folder / "meta.json").read_text())["inputs"]
    return {
        ROOT / module: {
            ROOT / each["path"]
            for each in found["imports"]
            if each["kind"] == "import-statement" and not each.get("external")
        }
        for module, found in inputs.items()
    }


def together(imports: dict[Path, set[Path]], module: Path, files: set[Path]) -> set[Path]:
    """A module, and those that it needs at once, but not those that are ``files`` of their own."""
    found = {module}
    while more := {each for one in found for each in imports[one]} - found - files:
        found |= more
    return found


@needs_esbuild
def test_each_file_has_its_modules_and_no_others(served: Served, imports: dict[Path, set[Path]]) -> None:
    files = {SOURCES / name for name in served.modules}
    main = together(imports, SOURCES / "main.js", files)
    # What is needed at first is not also loaded later, or it would be there twice.
    assert together(imports, SOURCES / "main.js", set()) == main
    for name, sent in served.modules.items():
        modules = together(imports, SOURCES / name, files) - (main if name != "main.js" else set())
        assert modules
        sent_body = body(sent)
        missing = [each.name for each in modules if body(each.read_text()) not in sent_body]
        assert missing == [], f"{name} was sent without a part of them"
        lines = [line for each in modules for line in body(each.read_text()).splitlines() if line]
        assert sorted(line for line in sent_body.splitlines() if line) == sorted(lines), f"{name} has more"
    assert [each.name for each in MODULES if each not in imports] == [], "nothing imports them"


@needs_esbuild
def test_what_a_file_imports_is_exported_and_no_name_is_there_twice(served: Served, tmp_path: Path) -> None:
    """esbuild refuses an import that nothing exports, and a second declaration of a name."""
    for name, sent in served.modules.items():
        imports = {path for _, path in _IMPORT.findall(sent)}
        assert imports <= {f"../../{served.client_js}", *(f"./{each}" for each in served.modules)}
        (tmp_path / name).write_text(re.sub(r"\.\./\.\./broker/\w+/broker\.js", str(CLIENT / "broker.js"), sent))
    command = [
        str(ESBUILD), *(str(tmp_path / name) for name in served.modules), "--bundle", "--format=esm", "--splitting",
        f"--outdir={tmp_path / 'out'}", "--log-override:import-is-undefined=error",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@needs_esbuild
def test_what_a_module_imports_and_exports_is_written_so_that_it_can_be_joined(imports: dict[Path, set[Path]]) -> None:
    for module, needed in imports.items():
        text = module.read_text()
        written = _IMPORT.findall(text)
        found = {(module.parent / path).resolve() for _, path in written}
        assert found - {CLIENT / "broker.js"} == needed, module.name
        assert not [names for names, _ in written if " as " in names], module.name
        for line in re.findall(r"^export\b.*", text, re.MULTILINE):
            assert re.match(r"export (async function|function|class|const) \w+", line), line


# Where it is on


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/"),
        ({"host": "0.0.0.0"}, "/"),
        ({"console": "no"}, None),
        ({"static": "."}, "/$console"),
        ({"static": ".", "host": "localhost"}, "/$console"),
        ({"static": ".", "host": "::1"}, "/$console"),
        ({"static": ".", "host": "0.0.0.0"}, None),
        ({"static": ".", "host": "::"}, None),
        ({"static": ".", "host": "broker.example"}, None),
        ({"static": ".", "host": "0.0.0.0", "console": "yes"}, "/$console"),
        ({"static": ".", "console": "no"}, None),
    ],
)
def test_a_front_end_for_other_machines_has_no_console_beside_it(settings: dict[str, str], path: str | None) -> None:
    assert console_path(Settings(**settings)) == path  # type: ignore[arg-type] # texts, as the environment has them


def test_a_server_without_a_console_says_so(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--no-console") as server, server.client() as client:
        for path in ("/", "/$console"):
            answer = client.get(path, headers=NAVIGATES)
            assert answer.status_code == 404
            assert answer.json()["detail"].startswith("there is no console: it was turned off (console (argument))")
        assert client.get("/$console/0123456789abcdef/main.js").status_code == 404
        assert client.get("/about").status_code == 200
        server.wait_for_log("API documentation: ")
        assert not any("Console" in line for line in server.log)


def test_with_a_front_end_the_console_has_a_place_of_its_own(tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    (site / "index.html").write_text("the front-end")
    with ServerProcess(tmp_path / "data", "--static", str(site)) as server, server.client() as client:
        server.wait_for_log(f"Console: {server.url}/$console")
        for headers in ({}, NAVIGATES):
            assert client.get("/", headers=headers).text == "the front-end"
            assert client.get("/$console", headers=headers).headers["content-type"] == "text/html; charset=utf-8"
        assert set(Served(client, "/$console").modules) > {"main.js"}
        assert client.get("/$console/none", headers=NAVIGATES).status_code == 404


def test_a_front_end_for_other_machines_is_served_without_a_console(tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    (site / "index.html").write_text("the front-end")
    source = STARLETTE.replace("Settings(", f"Settings(static=Path({str(site)!r}), host='192.0.2.1', open=True, ")
    with HostProcess(tmp_path, source) as host, host.client() as client:
        assert client.get("/", headers=NAVIGATES).text == "the front-end"
        answer = client.get("/$console", headers=NAVIGATES)
        assert answer.status_code == 404
        assert "with static, it is only for this machine (console (default))" in answer.json()["detail"]


def test_below_the_path_of_another_app_the_console_works(tmp_path: Path) -> None:
    with HostProcess(tmp_path, STARLETTE) as host, host.client() as client:
        for path in ("/", "/$console"):
            served = Served(client, path)
            assert served.url.startswith(f"{host.url}/")
            assert set(served.modules) > {"main.js"}
            assert "createBroker" in served.get(served.client_js).text
            assert served.get(served.folder + "console.css").text


# What a page wants to know about the server


@pytest.fixture(name="place", params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def make_place(request: pytest.FixtureRequest) -> list[str]:
    return options_of(request.param, request)


def test_about_says_what_a_page_wants_to_know_before_a_login(place: list[str], tmp_path: Path) -> None:
    options = [*place, "--set", "console_name=production", "--set", "body_bytes_max=5000"]
    with ServerProcess(tmp_path, *options) as server, server.client() as stranger:
        answer = stranger.get("/about", headers={"Origin": "http://localhost:3000"})
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        about = answer.json()
        assert abs(about.pop("time") - time.time()) < 30
        limits = {
            "body_bytes_max": 5000, "batch_records_max": 1000, "event_names_max": 100_000, "filters_max": 100,
            "name_bytes_max": 255,
        }  # fmt: skip
        assert about == {
            "version": __version__, "console_name": "production", "signup": True, "first_run": True, "rules": False,
            "limits": limits,
        }  # fmt: skip
        with server.client("ada"):
            assert stranger.get("/about").json()["first_run"] is False
        apply_rules(server, WIDE)
        wait_for(lambda: stranger.get("/about").json()["rules"])  # on PostgreSQL, another process has written them


def test_a_closed_server_with_users_is_no_first_run(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        server.client("ada").close()
    with ServerProcess(tmp_path, "--set", "signup=no") as server, server.client() as stranger:
        about = stranger.get("/about").json()
        assert (about["signup"], about["first_run"]) == (False, False)


@pytest.mark.parametrize("name", ["x" * 65, "two\nlines", "\u202eright to left", "\u200bhidden"])
def test_a_name_of_the_console_that_could_mislead_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="console_name"):
        Settings(console_name=name)
