"""What a request asks for, and which settings of a front-end are refused."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from broker import Settings, create_app
from broker.errors import SettingsError
from broker.settings import read_settings
from broker.web.front_end import _find, _media_type, _weights, codings, navigates

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"


def asks(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec_fetch_mode": "navigate"}, True),
        ({"sec_fetch_mode": "navigate", "accept": "*/*"}, True),
        ({"sec_fetch_mode": "cors", "accept": CHROMIUM}, False),
        ({"sec_fetch_mode": "no-cors"}, False),
        ({"accept": CHROMIUM}, True),
        ({"accept": "text/html, application/xhtml+xml, */*"}, True),
        ({"accept": "text/html"}, True),
        ({"accept": "TEXT/HTML;level=1;q=0.5, application/json;q=0.4"}, True),
        ({"accept": "application/json, text/html;q=0.9"}, False),
        ({"accept": "application/json, text/html"}, False),
        ({"accept": "text/html;q=0.5, */*"}, False),
        ({"accept": "text/html;q=0"}, False),
        ({"accept": "text/html;q=much"}, False),
        ({"accept": "text/event-stream"}, False),
        ({"accept": "application/json"}, False),
        ({"accept": "*/*"}, False),
        ({"accept": ""}, False),
        ({}, False),
    ],
)
def test_a_navigation_is_what_a_browser_calls_so_or_what_prefers_html(headers: dict[str, str], expected: bool) -> None:
    assert navigates(asks(**headers)) is expected


def test_of_a_long_header_only_the_beginning_is_read() -> None:
    assert navigates(asks(accept=f"{'a/b;q=0.1,' * 90}text/html"))
    assert not navigates(asks(accept=f"{'a/b;q=0.1,' * 3_000}text/html"))
    for sign in (",", ";", "text/html;q=0.1,", ";q=1"):
        assert len(_weights((sign * 32_000)[:32_000])) <= 1_001


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip, deflate, br, zstd", ["br", "gzip"]),
        ("gzip", ["gzip"]),
        ("gzip;q=1.0, br;q=0.5", ["gzip", "br"]),
        ("br;q=0, *", ["gzip"]),
        ("*;q=0, gzip", ["gzip"]),
        ("*;q=0.001", ["br", "gzip"]),
        ("BR ; Q=1", ["br"]),
        ("br;q=0, gzip;q=0.000", []),
        ("identity", []),
        ("", []),
    ],
)
def test_the_codings_are_those_that_the_client_accepts(accepted: str, expected: list[str]) -> None:
    assert codings(asks(accept_encoding=accepted)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app.js", "text/javascript"),
        ("app.MJS", "text/javascript"),
        ("app.js.map", "application/json"),
        ("app.wasm", "application/wasm"),
        ("app.webmanifest", "application/manifest+json"),
        ("a/b.css", "text/css"),
        ("logo.svg", "image/svg+xml"),
        ("logo.avif", "image/avif"),
        ("logo.webp", "image/webp"),
        ("favicon.ico", "image/x-icon"),
        ("font.woff2", "font/woff2"),
        ("app.js.gz", "application/gzip"),
        ("app.js.br", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
        ("data:text/html,x.js", "text/javascript"),
    ],
)
def test_the_type_of_a_file_is_that_of_its_name(name: str, expected: str) -> None:
    mimetypes.add_type("text/wrong", ".js")  # as the table of a system may say
    assert _media_type(name) == expected


def test_what_is_outside_or_cannot_be_read_is_never_found(tmp_path: Path) -> None:
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (tmp_path / "dist-old").mkdir()
    (tmp_path / "dist-old" / "app.js").write_text("")
    (root / "old").symlink_to("../dist-old")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "itself").symlink_to(".")
    assert _find(str(root), "assets") == str(root / "assets")
    assert _find(str(root), "itself/itself/assets") == str(root / "assets")
    for missing in ("nothing", "a", "b/c", "x" * 300, "x/" * 3000, "half a surrogate pair \udcff \ud800"):
        assert _find(str(root), missing) is None
    for outside in ("old", "old/app.js", "../dist-old/app.js", ".."):
        with pytest.raises(HTTPException):
            _find(str(root), outside)


class TestSettings:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "dist").mkdir()
        (tmp_path / "dist" / "index.html").write_text("<!doctype html>")
        return tmp_path / "dist"

    def test_a_folder_that_has_a_page_is_accepted_and_may_be_a_link(self, folder: Path) -> None:
        create_app(Settings(static=folder, data=folder.parent / "data"))
        (folder.parent / "current").symlink_to("dist")
        create_app(Settings(static=folder.parent / "current", data=folder.parent))

    def test_what_is_not_there_is_refused(self, folder: Path) -> None:
        with pytest.raises(SettingsError, match=r"^static \(argument\): .*/none is not there; build your front-end"):
            create_app(Settings(static=folder.parent / "none"))

    def test_what_has_no_page_is_refused(self, folder: Path) -> None:
        for wrong in (folder / "index.html", folder.parent):
            with pytest.raises(SettingsError, match=r"has no index\.html; build your front-end first"):
                create_app(Settings(static=wrong))

    def test_a_folder_from_which_everybody_could_read_the_log_the_rules_or_the_key_is_refused(
        self, folder: Path
    ) -> None:
        with pytest.raises(SettingsError, match=r"contains .*/tmp, which is data \(argument\), and everybody"):
            create_app(Settings(static=folder, data=folder / "tmp"))
        (folder / "link").symlink_to(folder.parent)
        key = folder / "link" / "dist" / "key.pem"
        with pytest.raises(SettingsError, match=r"which is tls_key \(argument\), and everybody"):
            create_app(Settings(static=folder, data=folder.parent, tls_key=key, tls_certificate=key))
        with pytest.raises(SettingsError, match=r"contains .*/rules.toml, which is rules \(argument\), and everybody"):
            create_app(Settings(static=folder, data=folder.parent, rules=folder / "rules.toml"))

    def test_the_sources_of_a_front_end_are_served_with_a_warning(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        create_app(Settings(static=folder, data=folder.parent))
        assert not caplog.messages
        (folder / "package.json").write_text("{}")
        create_app(Settings(static=folder, data=folder.parent))
        assert f"Give the folder of the build, such as {folder / 'dist'}" in caplog.text

    def test_a_settings_file_in_the_folder_is_refused(self, folder: Path) -> None:
        file = folder / "broker.toml"
        file.write_text('metrics_token = "0123456789abcdef"\n')
        settings = read_settings({"static": str(folder), "data": str(folder.parent)}, file=file, file_source="--config")
        with pytest.raises(SettingsError, match=r"contains .*/broker.toml, which is the settings file"):
            create_app(settings)

    def test_the_secret_of_a_log_that_has_moved_is_not_served(self, folder: Path) -> None:
        """`broker move` copies it, so it signs the tokens of the new log, too."""
        (folder / "tmp").mkdir()
        (folder / "tmp" / "token-secret").write_text("x")
        with pytest.raises(SettingsError, match=r"contains .*/tmp, which is data"):
            create_app(Settings(static=folder, data=folder / "tmp", database="postgresql://x/y"))

    def test_without_a_log_on_disk_its_folder_does_not_matter(self, folder: Path) -> None:
        pytest.importorskip("psycopg")
        create_app(Settings(static=folder, data=folder / "tmp", database="postgresql://db.example/live"))
