"""The files of a front-end, from a server process: which file, which headers, and what is never served."""

from __future__ import annotations

import gzip
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.commands import command
from tests.support.hosts import STARLETTE, HostProcess
from tests.support.servers import ServerProcess, wait_for

NAVIGATES = {"Sec-Fetch-Mode": "navigate"}
# What a browser sends to a server on another machine by plain http: it leaves Sec-Fetch-Mode out there.
PREFERS_HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
INDEX, SCRIPT = "<!doctype html><title>the page</title>", "const a = 'ü';\n" * 100
SECRET = "only for the operator"


def build(folder: Path) -> Path:
    """A front-end as a build leaves it, in a folder with other things beside it."""
    dist = folder / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "guide").mkdir()
    (dist / "index.html").write_text(INDEX)
    (dist / "guide" / "index.html").write_text("the guide")
    (dist / "assets" / "app.js").write_text(SCRIPT)
    (dist / "assets" / "empty.css").write_text("")
    (folder / "secret.txt").write_text(SECRET)
    return dist


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def client(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    data = tmp_path_factory.mktemp("data")
    with ServerProcess(data, "--static", str(site), "--origin", "none") as server, server.client() as client:
        client.headers = httpx.Headers({"Accept": "*/*", "Accept-Encoding": "identity"})
        yield client


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("compressed")
    dist = build(folder)
    for name in ("index.html", "assets/app.js"):
        (dist / f"{name}.gz").write_bytes(gzip.compress((dist / name).read_bytes()))
    (dist / "assets" / "app.js.br").write_bytes(b"as if by Brotli")
    (dist / "assets" / "old.js").write_text("new")
    (dist / "assets" / "old.js.br").write_text("old")
    os.utime(dist / "assets" / "old.js.br", (1, 1))
    (dist / "assets" / "far.js").write_text("near")
    (dist / "assets" / "far.js.br").symlink_to(folder / "secret.txt")
    with ServerProcess(folder / "data", "--static", str(dist)) as server, server.client() as client:
        yield client


class TestWhich:
    @pytest.mark.parametrize("headers", [{}, NAVIGATES, PREFERS_HTML])
    def test_a_file_is_served_to_everybody(self, client: httpx.Client, headers: dict[str, str]) -> None:
        for path, text in (("/", INDEX), ("/index.html", INDEX), ("/assets/app.js", SCRIPT), ("/guide/", "the guide")):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.text) == (200, text)

    @pytest.mark.parametrize("headers", [NAVIGATES, PREFERS_HTML])
    @pytest.mark.parametrize(
        "path",
        [
            "/nothing", "/nothing/at/all/", "/login", "/users", "/users/me", "/events", "/docs", "/insert",
            "/cancel/1", "/snapshot?event=a", "/assets", "/assets/", "/assets/app.js/", f"/{'x' * 3000}", "/$consoles",
            "/a/$console",
        ],
    )  # fmt: skip
    def test_a_navigation_to_anything_else_gets_the_page(
        self, client: httpx.Client, path: str, headers: dict[str, str]
    ) -> None:
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.text) == (200, INDEX)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers.get_list("vary") == ["Accept-Encoding, Accept, Sec-Fetch-Mode", "Origin"]
        assert client.head(path, headers=headers).headers["content-length"] == str(len(INDEX))

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Accept": "application/json"},
            {"Sec-Fetch-Mode": "cors", "Accept": "text/html"},
            {"Accept": "text/html, image/gif, image/jpeg, */*; q=0.2", "Authorization": "Basic x"},
        ],
    )
    def test_any_other_request_gets_what_it_would_get_without_a_front_end(
        self, client: httpx.Client, headers: dict[str, str]
    ) -> None:
        statuses = {"/nothing": 404, "/assets": 404, "/assets/": 404, "/login": 405, "/users/me": 401, "/healthz": 200}
        for path, status in statuses.items():
            answer = client.get(path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["content-type"].startswith("application/")
        assert client.get("/docs", headers=headers).text != INDEX
        assert client.get("/snapshot", headers=headers).status_code == (401 if "Authorization" in headers else 200)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_every_other_method_goes_to_the_api(self, client: httpx.Client, method: str) -> None:
        for path, status in (("/", 404), ("/assets/app.js", 404), ("/login", 415 if method == "POST" else 405)):
            assert client.request(method, path, headers=NAVIGATES).status_code == status

    def test_a_folder_without_the_slash_is_redirected_to_the_one_with_it(self, client: httpx.Client) -> None:
        for path, place in (
            ("/guide", "./guide/"),
            ("/guide?a=1&b=%2F", "./guide/?a=1&b=%2F"),
            ("//guide", "./guide/"),
        ):
            for headers in ({}, NAVIGATES):
                answer = client.get(f"{str(client.base_url).rstrip('/')}{path}", headers=headers)
                assert (answer.status_code, answer.headers["location"]) == (307, place)

    def test_an_event_source_gets_the_stream_also_where_browsers_do_not_say_what_they_want(
        self, client: httpx.Client
    ) -> None:
        with client.stream("GET", "/events", headers={"Accept": "text/event-stream"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")

    def test_the_place_of_the_console_is_kept_free(self, client: httpx.Client, site: Path) -> None:
        (site / "$console").mkdir(exist_ok=True)
        (site / "$console" / "index.html").write_text("no")
        for headers in ({}, NAVIGATES):
            for path in ("/$console", "/%24console"):
                assert "main.js" in client.get(path, headers=headers).text
            for path in ("/$console/", "/$console/index.html"):
                assert client.get(path, headers=headers).status_code == 404

    def test_the_folder_is_looked_up_for_each_request(self, tmp_path: Path) -> None:
        builds = [build(tmp_path / name) for name in ("first", "second")]
        (builds[1] / "index.html").write_text("the second page")
        current = tmp_path / "current"
        current.symlink_to(builds[0])
        with ServerProcess(tmp_path / "data", static=current) as server, server.client() as client:
            assert client.get("/").text == INDEX
            (builds[0] / "new.txt").write_text("new")
            assert client.get("/new.txt").text == "new"
            (tmp_path / "next").symlink_to(builds[1])
            (tmp_path / "next").rename(current)
            assert client.get("/").text == "the second page"
            current.unlink()
            assert client.get("/", headers=NAVIGATES).status_code == 404


class TestNever:
    @pytest.mark.parametrize(
        "path",
        [
            "/../secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/.", "/...",
            "/%2e", "/%2e%2e%2fsecret.txt", "/assets/%2E./%2e%2E/secret.txt", "/..%5csecret.txt", "/assets%5capp.js",
            "/assets\\app.js", "//../secret.txt", "/assets/./app.js", "/%252e%252e/secret.txt", "/.env", "/.git/config",
            "/%2egit/config", "/assets/.hidden", "/.well-known/security.txt", "/index.html%00", "/%00", "/a%00/../b",
        ],
    )  # fmt: skip
    def test_what_is_hidden_or_outside(self, client: httpx.Client, site: Path, path: str) -> None:
        for hidden in (".env", ".git/config", "assets/.hidden", ".well-known/security.txt", "..."):
            (site / hidden).parent.mkdir(exist_ok=True)
            (site / hidden).write_text(SECRET)
        twice = "%25" in path  # it is decoded once, and what is left is a name like any other
        for headers, status in (("", 404), ("Sec-Fetch-Mode: navigate\r\n", 200 if twice else 404)):
            answer = as_sent(client, path, headers)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert SECRET.encode() not in answer

    @pytest.mark.parametrize("headers", [{}, NAVIGATES])
    def test_what_is_outside_behind_a_link(self, client: httpx.Client, site: Path, headers: dict[str, str]) -> None:
        links = {"out.txt": "../secret.txt", "up": "..", "top": "/", "assets/out.js": str(site.parent / "secret.txt")}
        for name, target in links.items():
            if not (site / name).is_symlink():
                (site / name).symlink_to(target)
        for path in ("/out.txt", "/up", "/up/secret.txt", "/top/etc/passwd", "/assets/out.js"):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, SECRET in answer.text) == (404, False)
        assert SECRET not in client.get("/up/", headers=headers).text

    def test_a_link_to_a_file_or_folder_inside_is_served(self, client: httpx.Client, site: Path) -> None:
        (site / "release").mkdir()
        (site / "release" / "page.html").write_text("released")
        (site / "latest").symlink_to("release")
        (site / "page.html").symlink_to("latest/page.html")
        for path in ("/page.html", "/latest/page.html"):
            answer = client.get(path)
            assert (answer.text, answer.headers["content-type"]) == ("released", "text/html; charset=utf-8")

    @pytest.mark.parametrize("headers", [{}, NAVIGATES])
    def test_what_is_no_file(self, client: httpx.Client, site: Path, headers: dict[str, str]) -> None:
        if not (site / "pipe").exists():
            os.mkfifo(site / "pipe")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(site / "socket"))
        for path in ("/pipe", "/socket"):
            assert client.get(path, headers=headers).status_code == 404

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_what_the_server_may_not_read(self, client: httpx.Client, site: Path) -> None:
        (site / "private.txt").write_text(SECRET)
        (site / "private.txt").chmod(0)
        assert client.get("/private.txt").status_code == 404

    def test_a_list_of_a_folder(self, client: httpx.Client) -> None:
        for path in ("/assets", "/assets/"):
            assert "app.js" not in client.get(path, headers=NAVIGATES).text


def as_sent(client: httpx.Client, path: str, headers: str = "") -> bytes:
    """The answer to a path that httpx would change."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode())
        return b"".join(iter(lambda: sock.recv(65_536), b""))


class TestHeaders:
    def test_every_file_is_asked_for_again_and_is_what_its_type_says(self, client: httpx.Client) -> None:
        headers = client.get("/assets/app.js").headers
        assert headers["content-type"] == "text/javascript; charset=utf-8"
        assert headers["cache-control"] == "no-cache"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get_list("vary") == ["Accept-Encoding", "Origin"]
        assert int(headers["content-length"]) == len(SCRIPT.encode())

    def test_what_the_client_has_already_is_not_sent_again(self, client: httpx.Client) -> None:
        first = client.get("/assets/app.js")
        tag = first.headers["etag"]
        for condition in (tag, f'"other", W/{tag}'):
            answer = client.get("/assets/app.js", headers={"If-None-Match": condition})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
            assert answer.headers["cache-control"] == "no-cache"
        # The time of a file says nothing: another build may have the same one, or an earlier one.
        assert "last-modified" not in first.headers
        later = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
        assert client.get("/assets/app.js", headers=later).status_code == 200

    def test_the_tag_follows_the_content_and_nothing_else(self, client: httpx.Client, site: Path) -> None:
        """A build for a container may give each file the same time, and what differs may have the same length."""
        page = site / "tagged.html"
        tags = []
        for text in ("app-1.js", "app-2.js", "app-1.js"):
            page.write_text(text)
            os.utime(page, (1, 1))
            tags.append(client.get("/tagged.html").headers["etag"])
        assert tags[0] == tags[2] != tags[1]

    def test_the_tag_of_a_large_file_follows_its_size_and_time(self, client: httpx.Client, site: Path) -> None:
        film = site / "film.mp4"
        tags = []
        for size in (9 << 20, 9 << 20, (9 << 20) + 1):
            with film.open("wb") as file:
                file.truncate(size)
            os.utime(film, (1, 1))
            tags.append(client.head("/film.mp4").headers["etag"])
            part = client.get("/film.mp4", headers={"Range": "bytes=0-3", "If-Range": tags[-1]})
            assert part.status_code == 206
        assert all(tag.startswith('W/"') for tag in tags)
        assert tags[2] != tags[0]
        film.unlink()

    def test_a_head_has_the_headers_of_the_get(self, client: httpx.Client) -> None:
        get, head = client.get("/assets/app.js"), client.head("/assets/app.js", headers={"Range": "bytes=0-1"})
        assert (head.status_code, head.content) == (200, b"")
        assert [each for each in head.headers.items() if each[0] != "date"] == [
            each for each in get.headers.items() if each[0] != "date"
        ]

    @pytest.mark.parametrize(
        ("asked", "status", "part"),
        [
            ("bytes=0-3", 206, SCRIPT.encode()[:4]),
            ("bytes=-4", 206, SCRIPT.encode()[-4:]),
            ("bytes=1590-", 206, SCRIPT.encode()[1590:]),
            ("bytes=1590-99999", 206, SCRIPT.encode()[1590:]),
            ("bytes=99999-", 416, b""),
            # What a server may or must ignore (RFC 9110, section 14.2).
            ("bytes=3-1", 200, SCRIPT.encode()),
            ("bytes=0-1,3-4", 200, SCRIPT.encode()),
            ("lines=0-3", 200, SCRIPT.encode()),
            ("bytes=", 200, SCRIPT.encode()),
            (f"bytes=0-{'9' * 5000}", 200, SCRIPT.encode()),
        ],
    )
    def test_a_part_of_a_file(self, client: httpx.Client, asked: str, status: int, part: bytes) -> None:
        answer = client.get("/assets/app.js", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, part)
        assert answer.headers["content-length"] == str(len(part))

    def test_a_part_is_sent_only_of_the_file_that_the_client_began_with(self, client: httpx.Client) -> None:
        tag = client.get("/assets/app.js").headers["etag"]
        for condition, status in ((tag, 206), ('"another"', 200)):
            headers = {"Range": "bytes=0-3", "If-Range": condition}
            assert client.get("/assets/app.js", headers=headers).status_code == status

    def test_an_empty_file_is_a_file(self, client: httpx.Client) -> None:
        answer = client.get("/assets/empty.css")
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


class TestCompressed:
    @pytest.mark.parametrize(
        ("accepted", "coding"),
        [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, br;q=0", "gzip"),
            ("gzip", "gzip"),
            ("*", "br"),
            ("br;q=0, gzip;q=0", None),
            ("identity", None),
            ("deflate", None),
        ],
    )
    def test_the_compressed_file_beside_it_is_sent_if_the_client_accepts_it(
        self, compressed: httpx.Client, accepted: str, coding: str | None
    ) -> None:
        for method in ("GET", "HEAD"):
            # Not decoded by httpx, because what stands for Brotli here is none.
            with compressed.stream(method, "/assets/app.js", headers={"Accept-Encoding": accepted}) as answer:
                assert answer.headers.get("content-encoding") == coding
                assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
                assert answer.headers.get_list("vary") == ["Accept-Encoding", "Origin"]
                body = b"".join(answer.iter_raw())
        assert body == b""

    def test_each_form_has_a_tag_of_its_own(self, compressed: httpx.Client) -> None:
        codings = ("br", "gzip", "identity")
        tags = [
            compressed.head("/assets/app.js", headers={"Accept-Encoding": each}).headers["etag"] for each in codings
        ]
        assert len(set(tags)) == 3
        for coding, tag in zip(codings, tags, strict=True):
            headers = {"Accept-Encoding": coding, "If-None-Match": tag}
            assert compressed.get("/assets/app.js", headers=headers).status_code == 304
        assert (
            compressed.get("/assets/app.js", headers={"Accept-Encoding": "gzip", "If-None-Match": tags[2]}).text
            == SCRIPT
        )

    def test_the_page_of_every_address_may_be_compressed_too(self, compressed: httpx.Client) -> None:
        answer = compressed.get("/login", headers=NAVIGATES | {"Accept-Encoding": "gzip"})
        assert (answer.headers["content-encoding"], answer.text) == ("gzip", INDEX)

    def test_a_compressed_file_that_is_older_than_the_file_is_not_sent(self, compressed: httpx.Client) -> None:
        assert compressed.get("/assets/old.js", headers={"Accept-Encoding": "br"}).text == "new"

    def test_a_compressed_file_outside_is_never_sent(self, compressed: httpx.Client) -> None:
        assert SECRET not in compressed.get("/assets/far.js", headers={"Accept-Encoding": "br"}).text
        assert compressed.get("/assets/far.js", headers={"Accept-Encoding": "gzip"}).text == "near"

    def test_a_compressed_file_under_its_own_name_is_a_file(self, compressed: httpx.Client) -> None:
        answer = compressed.get("/assets/app.js.gz", headers={"Accept-Encoding": "gzip, br"})
        assert answer.headers["content-type"] == "application/gzip"
        assert "content-encoding" not in answer.headers
        assert gzip.decompress(answer.content) == SCRIPT.encode()


class TestServer:
    def test_a_page_needs_no_cors_for_its_own_server(self, site: Path, tmp_path: Path) -> None:
        with ServerProcess(tmp_path, "--static", str(site), "--origin", "none") as server, server.client("ada") as ada:
            headers = {"Origin": server.url, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
            assert ada.post("/insert", json={"event": "user", "data": 1}, headers=headers).status_code == 201
            assert "access-control-allow-origin" not in ada.get("/", headers=headers).headers
            server.stop()
            assert not [line for line in server.log if "cross-origin" in line]

    def test_the_setting_may_be_a_variable_or_a_line_of_a_file(self, site: Path, tmp_path: Path) -> None:
        (tmp_path / "broker.toml").write_text(f'static = "{site}"\n')
        with ServerProcess(tmp_path / "data", "--config", str(tmp_path / "broker.toml")) as server:
            assert httpx.get(f"{server.url}/").text == INDEX

    def test_a_folder_without_a_page_is_refused_before_the_log_is_opened(self, tmp_path: Path) -> None:
        options = ("--port", "0", "--data", str(tmp_path / "data"), "--static", str(tmp_path))
        with command("serve", *options, environment={}) as process:
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 1
        assert f"static (argument): {tmp_path} has no index.html; build your front-end first" in errors
        assert not (tmp_path / "data").exists()

    def test_the_server_says_what_it_serves_at_its_address(self, site: Path, tmp_path: Path) -> None:
        with ServerProcess(tmp_path, "--static", str(site)) as server:
            server.wait_for_log(f"{server.url}/ shows the front-end in {site}")
            assert not [line for line in server.log if "/docs" in line]

    def test_without_a_front_end_a_navigation_gets_what_the_api_says(self, server: ServerProcess) -> None:
        for path, status in (("/", 200), ("/nothing", 404), ("/login", 405), ("/docs", 200)):
            assert httpx.get(f"{server.url}{path}", headers=NAVIGATES).status_code == status

    def test_below_the_path_of_another_app_the_same_holds(self, site: Path, tmp_path: Path) -> None:
        source = STARLETTE.replace("Settings(", f"Settings(static=Path({str(site)!r}), ")
        with HostProcess(tmp_path, source) as host, host.client() as client:
            for path in ("/", "/users", "/a/b"):
                assert client.get(path, headers=NAVIGATES).text == INDEX
            assert client.get("/assets/app.js").text == SCRIPT
            assert client.get("/guide").headers["location"] == "./guide/"
            assert "main.js" in client.get("/$console", headers=NAVIGATES).text
            assert client.get("/snapshot").json() == []
            assert httpx.get(host.url.removesuffix("/live"), headers=NAVIGATES).status_code == 404

    @pytest.mark.parametrize("size", [1_000, 50_000_000])
    def test_a_file_that_is_changed_while_it_is_sent_is_not_taken_for_a_whole_one(
        self, tmp_path: Path, size: int
    ) -> None:
        film = build(tmp_path) / "film.webm"
        with film.open("wb") as file:
            file.truncate(20_000_000)
        with ServerProcess(tmp_path / "data", "--static", str(film.parent)) as server:
            with open_stalled(server, "/film.webm") as sock:
                assert sock.recv(1)
                with film.open("r+b") as file:
                    file.truncate(size)
                received = 1
                with suppress(ConnectionResetError):
                    while part := sock.recv(1_000_000):
                        received += len(part)
                assert received < 20_000_000
            server.stop()
            assert not [line for line in server.log if "Traceback" in line]

    def test_readers_that_read_nothing_cost_little_memory(self, tmp_path: Path) -> None:
        dist, readers = build(tmp_path), 100
        with (dist / "film.webm").open("wb") as film:
            film.truncate(50_000_000)
        with ServerProcess(tmp_path / "data", "--static", str(dist)) as server:
            httpx.head(f"{server.url}/film.webm")
            before = resident(server)
            stalled = [open_stalled(server, "/film.webm") for _ in range(readers)]
            wait_for(lambda: all(sock.recv(1, socket.MSG_PEEK) for sock in stalled))
            assert httpx.get(f"{server.url}/").text == INDEX, "the others are served"
            assert resident(server) - before < readers * 150_000
            for sock in stalled:
                sock.close()


def open_stalled(server: ServerProcess, path: str) -> socket.socket:
    """A connection with a request that is answered, and a client that does not read by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.connect(("127.0.0.1", server.port))
    sock.settimeout(20)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return sock


def resident(server: ServerProcess) -> int:
    """The memory of the server, in bytes."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
