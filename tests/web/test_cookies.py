"""What a plain EventSource sends in place of a token: a cookie, or a ticket in the URL. Both only read.

The numbers in the docstrings are those of reports about other projects, in which it went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from broker.web.app import create_app
from tests.support.hosts import TWO_BROKERS, HostProcess
from tests.support.operators import insert
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import ServerProcess, open_stream, streaming

RULES = """
[[event]]
name = "own/{who}"
read = "{who}"
log = "{who}"
insert = "{who}"
"""
APP, PATTERN, FOREIGN = "https://app.example", "http://localhost:3000", "https://evil.example"
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("cookies")
    options = ("--verbose", "--origin", APP, "--origin", "http://localhost:*")
    with ServerProcess(folder, *options, signups_per_address="999/minute") as running:
        apply_rules(running, RULES)
        running.token("admin")
        give_roles(running, "admin", "admin")
        yield running


class Someone:
    """A new user with a session, a cookie, a ticket, and an event that only this user may read."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.name = f"u{uuid4().hex[:12]}"
        self.client = server.client(self.name)
        answer = self.client.post("/session")
        assert answer.status_code == 200, answer.text
        self.set_cookie = answer.headers["set-cookie"]
        self.cookie = self.set_cookie.partition(";")[0]
        self.client.cookies.clear()
        self.ticket = self.new_ticket()
        self.canary = f"canary-{uuid4().hex}"
        insert(self.client, f"own/{self.name}", self.canary)

    def new_ticket(self) -> str:
        answer = self.client.post("/session", json={"ticket": True})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])

    def with_cookie(self, method: str, path: str, headers: dict[str, str] = OWN, **more: Any) -> httpx.Response:
        sent = {"Cookie": self.cookie, **headers}
        return httpx.request(method, f"{self.server.url}{path}", headers=sent, **more)


@pytest.fixture
def ada(server: ServerProcess) -> Iterator[Someone]:
    someone = Someone(server)
    yield someone
    someone.client.close()


def lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


# The cookie


def test_a_cookie_opens_a_stream_and_reads_the_snapshot_and_the_log(ada: Someone) -> None:
    with streaming(ada.server, f"/events?user={ada.name}", headers=lines({"Cookie": ada.cookie, **OWN})) as stream:
        assert ada.canary in stream.wait("$ready")[0].data
    assert ada.canary in ada.with_cookie("GET", "/snapshot").text
    for path in ("/collections", "/collection"):
        assert ada.canary in ada.with_cookie("GET", f"{path}/own/{ada.name}").text
    assert ada.with_cookie("HEAD", f"/events?user={ada.name}").status_code == 200


def test_scripts_cannot_read_the_cookie_and_no_other_site_and_no_plain_connection_gets_it(ada: Someone) -> None:
    match = re.fullmatch(
        r"__Host-broker=[\w.-]+; Path=/; Max-Age=(\d+); HttpOnly; Secure; SameSite=Strict", ada.set_cookie
    )
    assert match
    assert 86_390 < int(match[1]) <= 86_400


@pytest.mark.parametrize("headers", [
    {}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
    {"Origin": FOREIGN}, {"Origin": "null"}, {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://app.example.evil.example"}, {"Origin": f"{APP}:444"},
])  # fmt: skip
def test_a_request_that_another_site_has_caused_is_a_strangers(ada: Someone, headers: dict[str, str]) -> None:
    """Cross-origin reads: the response has neither the data, nor a header that would let the page read it."""
    with streaming(ada.server, headers=lines({"Cookie": ada.cookie, **headers})) as stream:
        assert ada.canary not in str(stream.wait("$ready"))
        assert "access-control-allow-credentials" not in stream.head.lower()
    for path in ("/snapshot", f"/collections/own/{ada.name}", f"/events?user={ada.name}"):
        answer = ada.with_cookie("GET", path, headers)
        assert ada.canary not in answer.text
        assert answer.status_code == (200 if path == "/snapshot" else 401)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", [APP, PATTERN])
def test_a_page_of_a_listed_origin_may_send_the_cookie_and_read_the_response(ada: Someone, origin: str) -> None:
    answer = ada.with_cookie("GET", "/snapshot", {"Origin": origin, "Sec-Fetch-Site": "same-site"})
    assert ada.canary in answer.text
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_credentials_never_go_with_all_origins(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--origin", "*") as server:
        apply_rules(server, RULES)
        ada = Someone(server)
        answer = ada.with_cookie("GET", "/snapshot", {"Origin": APP, "Sec-Fetch-Site": "cross-site"})
        assert ada.canary not in answer.text
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert ada.canary in ada.with_cookie("GET", "/snapshot").text  # its own page
        ada.client.close()


def test_without_origin_no_page_of_another_port_may_use_the_cookie(tmp_path: Path) -> None:
    """They may call the server, but cookies do not know ports, and nobody has listed these pages."""
    with ServerProcess(tmp_path) as server:
        apply_rules(server, RULES)
        ada = Someone(server)
        answer = ada.with_cookie("GET", "/snapshot", {"Origin": PATTERN, "Sec-Fetch-Site": "same-site"})
        assert ada.canary not in answer.text
        assert answer.headers["access-control-allow-origin"] == PATTERN
        assert "access-control-allow-credentials" not in answer.headers
        ada.client.close()


READS = {"GET /events", "GET /snapshot", "GET /collections/{event}", "GET /collection/{event}"}
ROUTES = sorted(
    f"{method} {route.path.replace(':path', '')}"
    for route in create_app().routes
    for method in (*route.app.endpoints, "PUT", "DELETE", "PATCH")  # type: ignore[attr-defined] # a Methods
    if method != "HEAD"
)
BODIES: dict[str, Any] = {
    "/insert": {"event": "own/{name}", "data": "forged"}, "/events": {}, "/keys": {"name": "forged"},
    "/users/me/password": {"old": "correct horse", "password": "another horse"}, "/admin": {"code": "x"},
    "/users/{id}/roles": {"roles": ["admin"]}, "/rules/check": {"who": "public", "operation": "read", "event": "a"},
    "/login": {"username": "nobody", "password": "wrong horse"}, "/users": {"username": "x", "password": "y"},
}  # fmt: skip


# Without those that read, and change nothing; streams have tests of their own.
@pytest.mark.parametrize(("credential", "route"), [
    *(("cookie", route) for route in ROUTES if route not in {*READS, "POST /events"}),
    *(("ticket", route) for route in ROUTES if not route.endswith(" /events")),
])  # fmt: skip
def test_forged_requests_on_every_route_and_method_do_what_they_do_for_strangers(
    ada: Someone, route: str, credential: str
) -> None:
    """With the cookie of an administrator, from a page of the server itself, which is the most that a browser sends."""
    method, path = route.split(" ")
    give_roles(ada.server, ada.name, "admin")
    pending = insert(ada.client, f"own/{ada.name}", "pending", timestamp=3_900_000_000)
    user_id = operate(ada.server, "GET", f"/users?name={ada.name}")[0]["id"]
    path = path.replace("/rules/", "/RULES/").replace("{uuid}", pending["uuid"]).replace("/RULES/", "/rules/")
    path = path.replace("/keys/{id}", "/keys/" + "0" * 40).replace("{id}", user_id)
    path = path.replace("{event}", f"own/{ada.name}").replace("{version}", "x").replace("{file}", "x")
    body = BODIES.get(route.split(" ")[1])
    if path == "/insert":
        body = {"event": f"own/{ada.name}", "data": "forged"}
    before = state_of(ada)
    answers = []
    for forged in (True, False):
        headers = OWN | ({"Cookie": ada.cookie} if forged and credential == "cookie" else {})
        query = f"?ticket={ada.ticket}" if forged and credential == "ticket" else ""
        answer = httpx.request(
            method, f"{ada.server.url}{path}{query}", headers=headers, json=body if method == "POST" else None
        )
        answers.append(answer)
    forged_answer, stranger = answers
    if forged_answer.status_code != 400:  # a ticket where it has no place
        assert forged_answer.status_code == stranger.status_code
    assert forged_answer.status_code not in (201, 204)
    assert ada.canary not in forged_answer.text
    assert state_of(ada) == before


def state_of(ada: Someone) -> str:
    """What an administrator could have changed."""
    parts = [ada.client.get(path).text for path in ("/snapshot", "/pending", "/keys", f"/users?name={ada.name}")]
    return "\n".join(parts) + str(ada.client.get("/users/me").status_code)


def test_post_events_never_counts_a_cookie(ada: Someone) -> None:
    reader = open_stream(ada.server, headers=lines({"Cookie": ada.cookie, **OWN}), body={})
    assert ada.canary not in str(reader.wait("$ready"))
    reader.close()


def test_a_logout_ends_the_cookie_and_the_ticket_and_their_streams(ada: Someone) -> None:
    streams = [
        open_stream(ada.server, headers=lines({"Cookie": ada.cookie, **OWN})),
        open_stream(ada.server, f"/events?ticket={ada.ticket}"),
    ]
    for stream in streams:
        stream.wait("$ready")
    answer = ada.with_cookie("POST", "/logout", {"Authorization": ada.client.headers["authorization"]})
    assert answer.status_code == 200
    assert "Max-Age=0" in answer.headers["set-cookie"]
    for stream in streams:
        stream.wait("$login")
        assert stream.frames[-1].json() == {"reason": "ended"}
        stream.close()
    refused = ada.with_cookie("GET", "/events")
    assert refused.status_code == 401
    assert refused.headers["set-cookie"].startswith("__Host-broker=; Path=/; Max-Age=0;")
    assert httpx.get(f"{ada.server.url}/events?ticket={ada.ticket}").status_code == 401


def test_a_stream_for_a_user_is_no_other_users_and_no_strangers(ada: Someone) -> None:
    bob = Someone(ada.server)
    for headers in ({}, {"Cookie": bob.cookie, **OWN}):
        answer = httpx.get(f"{ada.server.url}/events?user={ada.name}", headers=headers)
        assert answer.status_code == 401
    assert httpx.get(f"{ada.server.url}/events?user={ada.name}&ticket={bob.ticket}").status_code == 401
    bob.client.close()


@pytest.mark.parametrize("cookie", [
    "x={0}", "__Secure-broker={1}", "x=a,__Host-broker={1}", "__host-broker={1}", "__Host-broker2={1}",
    "a=b; x__Host-broker={1}", "__Host-broker={1}x", "__Host-broker=", "__Host-broker",
])  # fmt: skip
def test_no_other_cookie_counts(ada: Someone, cookie: str) -> None:
    value = ada.cookie.partition("=")[2]
    headers = {"Cookie": cookie.format(ada.cookie, value), **OWN}
    assert ada.canary not in httpx.get(f"{ada.server.url}/snapshot", headers=headers).text


def test_the_cookie_is_found_among_others(ada: Someone) -> None:
    for cookie in (f"a=b; {ada.cookie}; c=d", f"a=b;{ada.cookie}", f'q="x;y"; {ada.cookie}'):
        answer = httpx.get(f"{ada.server.url}/snapshot", headers={"Cookie": cookie, **OWN})
        assert ada.canary in answer.text


def test_a_cookie_of_another_server_on_this_host_counts_for_nothing_and_is_not_removed(
    ada: Someone, tmp_path: Path
) -> None:
    """Cookies do not know ports."""
    with ServerProcess(tmp_path) as other:
        bob = Someone(other)
        answer = httpx.get(f"{ada.server.url}/snapshot", headers={"Cookie": bob.cookie, **OWN})
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
        with streaming(ada.server, headers=lines({"Cookie": bob.cookie, **OWN})) as stream:
            stream.wait("$ready")
        bob.client.close()


def test_a_page_without_a_token_can_remove_the_cookie_and_no_other_site_can(ada: Someone) -> None:
    answer = ada.with_cookie("DELETE", "/session")
    assert answer.headers["set-cookie"].startswith("__Host-broker=; Path=/; Max-Age=0;")
    for origin in (APP, FOREIGN):
        asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
        assert (
            "DELETE"
            not in httpx.options(f"{ada.server.url}/session", headers=asked).headers["access-control-allow-methods"]
        )


def test_a_page_of_another_site_is_told_that_it_needs_a_ticket(ada: Someone) -> None:
    answer = ada.client.post("/session", headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "ask for a ticket" in answer.json()["detail"]) == (400, True)


# Tickets


def test_a_ticket_opens_streams_again_and_again_and_resumes(ada: Someone) -> None:
    """One that counts only once ends the stream for good (thedotmack/claude-mem PR #3514)."""
    last_id = ""
    for number in range(3):
        with streaming(ada.server, f"/events?user={ada.name}&ticket={ada.ticket}", last_id=last_id) as stream:
            frames = stream.wait("$ready")
            assert [frame.data for frame in frames[:-1]] == [f'"{ada.canary}"' if number == 0 else str(number)]
            last_id = stream.last_id
        insert(ada.client, f"own/{ada.name}", number + 1)


def test_a_ticket_opens_nothing_but_streams(ada: Someone) -> None:
    for path in ("/snapshot", f"/collections/own/{ada.name}", "/pending", "/users/me"):
        answer = httpx.get(f"{ada.server.url}{path}?ticket={ada.ticket}")
        assert answer.status_code in (400, 401)
    body = {"ticket": ada.ticket}
    assert httpx.post(f"{ada.server.url}/events", json=body).status_code == 400


def test_none_of_the_three_can_be_used_as_another(ada: Someone) -> None:
    token = ada.client.headers["authorization"].removeprefix("Bearer ")
    cookie = ada.cookie.partition("=")[2]
    for value in (cookie, ada.ticket):
        for path in ("/users/me", "/events", "/snapshot"):
            answer = httpx.get(f"{ada.server.url}{path}", headers={"Authorization": f"Bearer {value}"})
            assert answer.status_code == 401
        for path in ("/token", "/session", "/logout"):
            answer = httpx.post(f"{ada.server.url}{path}", headers={"Authorization": f"Bearer {value}"})
            assert answer.status_code == 401
    for value in (token, ada.ticket):  # no cookie of this server: as if there were none
        headers = {"Cookie": f"__Host-broker={value}", **OWN}
        assert httpx.get(f"{ada.server.url}/events?user={ada.name}", headers=headers).status_code == 401
        assert ada.canary not in httpx.get(f"{ada.server.url}/snapshot", headers=headers).text
    for value in (token, cookie, ""):
        assert httpx.get(f"{ada.server.url}/events?ticket={value}").status_code == 401


def test_a_ticket_expires_and_a_fresh_one_misses_nothing(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, ticket_ttl_s=3) as server:
        apply_rules(server, RULES)
        ada = Someone(server)
        with streaming(server, f"/events?ticket={ada.new_ticket()}") as stream:
            stream.wait("$login")
            assert stream.frames[-1].json() == {"reason": "expired"}
            last_id = stream.last_id
        insert(ada.client, f"own/{ada.name}", 2)
        with streaming(server, f"/events?ticket={ada.new_ticket()}&last_event_id={last_id}") as stream:
            assert [frame.data for frame in stream.wait("$ready")[:-1]] == ["2"]
        ada.client.close()


def test_neither_outlives_the_token(tmp_path: Path) -> None:
    """mercure #472, #666."""
    with ServerProcess(tmp_path, token_ttl_s=4, session_max_s=9) as server:
        apply_rules(server, RULES)
        ada = Someone(server)
        streams = [
            open_stream(server, headers=lines({"Cookie": ada.cookie, **OWN})),
            open_stream(server, f"/events?ticket={ada.ticket}"),
        ]
        for stream in streams:
            stream.wait("$login")
            assert stream.frames[-1].json() == {"reason": "expired"}
            stream.close()
        assert int(re.findall(r"Max-Age=(\d+)", ada.set_cookie)[0]) <= 4
        ada.client.close()


def test_a_ticket_is_in_no_log_no_error_no_metric_and_sends_no_referrer(ada: Someone) -> None:
    """doobidoo/mcp-memory-service #1117. A page that the ticket's URL leads from would send it in the header
    ``Referer``; the response forbids that."""
    with streaming(ada.server, f"/events?ticket={ada.ticket}") as stream:
        stream.wait("$ready")
        assert "referrer-policy: no-referrer" in stream.head.lower()
    texts = [
        httpx.get(f"{ada.server.url}/events?event=*x&ticket={ada.ticket}").text,
        httpx.get(
            f"{ada.server.url}/nowhere?ticket={ada.ticket}", headers={"Referer": f"/events?ticket={ada.ticket}"}
        ).text,
        httpx.get(f"{ada.server.url}/metrics").text,
        *ada.server.log,
    ]
    secrets = [ada.ticket, ada.cookie.partition("=")[2], ada.client.headers["authorization"].partition(" ")[2]]
    assert not [text for text in texts if any(secret in text for secret in secrets)]


def test_a_referer_is_no_credential(ada: Someone) -> None:
    referer = f"{ada.server.url}/events?ticket={ada.ticket}"
    answer = httpx.get(f"{ada.server.url}/events?user={ada.name}", headers={"Referer": referer})
    assert answer.status_code == 401


# The call itself


def test_the_call_needs_the_header(ada: Someone) -> None:
    assert ada.with_cookie("POST", "/session").status_code == 401
    for origin in (FOREIGN, APP):
        answer = httpx.options(
            f"{ada.server.url}/session",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert ("access-control-allow-origin" in answer.headers) == (origin == APP)
        assert (answer.headers.get("access-control-allow-credentials") == "true") == (origin == APP)


def test_a_body_that_is_no_request_is_refused(ada: Someone) -> None:
    assert ada.client.post("/session", json={"tickets": True}).status_code == 400
    assert ada.client.post("/session", content=b"ticket", headers={"Content-Type": "text/plain"}).status_code == 415
    assert ada.client.post("/session", json={}).status_code == 200


# Mounted in another program


def test_two_brokers_under_one_host_do_not_disturb_each_other(tmp_path: Path) -> None:
    with HostProcess(tmp_path, TWO_BROKERS, "--access-log", mount="") as host:
        cookies = {}
        for path in ("/one", "/two"):
            body = {"username": "ada", "password": "correct horse"}
            jwt = httpx.post(f"{host.url}{path}/users", json=body).json()["jwt"]
            headers = {"Authorization": f"Bearer {jwt}"}
            answer = httpx.post(f"{host.url}{path}/session", headers=headers)
            assert f"; Path={path};" in answer.headers["set-cookie"]
            cookies[path] = answer.headers["set-cookie"].partition(";")[0]
            assert cookies[path].startswith("__Secure-broker=")
            ticket = httpx.post(f"{host.url}{path}/session", json={"ticket": True}, headers=headers).json()["ticket"]
            with streaming(host, f"{path}/events?user=ada&ticket={ticket}") as stream:
                stream.wait("$ready")
            host.wait_for_log(f"GET {path}/events?user=ada HTTP/1.1")  # the access log of another server
            for query in (f"tick%65t={ticket}", f"events=x&ticket={ticket}"):  # also of a request that is refused
                httpx.head(f"{host.url}{path}/events?user=ada&{query}")
            assert not [line for line in host.log if ticket in line]
        for path, cookie in cookies.items():
            for sent in cookies.values():
                answer = httpx.head(f"{host.url}{path}/events?user=ada", headers={"Cookie": sent, **OWN})
                assert answer.status_code == (200 if sent == cookie else 401)  # as this user, or not at all
