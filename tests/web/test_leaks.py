"""Every path by which a private record could leak, for each kind of reader, on both databases. A route, or a kind of
frame, that is in no row fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest

from broker import sse
from broker.web.app import create_app
from tests.support.operators import insert
from tests.support.postgres import options_of
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import ServerProcess, open_stream, wait_for

RULES = """
roles = ["auditor"]

[[event]]
name = "secret/{who}/*"
read = ["{who}", "if club/{me}"]
log = ["{who}", "@auditor"]
insert = "user"

[[event]]
name = "club/{_}"
insert = "nobody"

[[event]]
name = "public/*"
read = "public"
insert = "user"
"""
OTHERS = """
[[event]]
name = "guest/*"
read = "public"
insert = ["user", "public"]
max_bytes = 100
rate = "999/minute"

[[event]]
name = "signed/*"
read = "public"
author = "public"
insert = ["user", "public"]
max_bytes = 100
rate = "999/minute"

[[event]]
name = "drop/*"
insert = "user"
cancel = "user"
read = "user"
log = "@auditor"
"""
NAME, DATA, PENDING, OLD = (f"canary-{kind}-{uuid4().hex}" for kind in ("name", "data", "pending", "old"))
SECRET = f"secret/ada/{NAME}"
ALL = (NAME, DATA, PENDING, OLD)


@dataclass
class Scene:
    """A server with secrets of Ada's, inserted by Carol, and with people."""

    server: ServerProcess
    clients: dict[str, httpx.Client]
    uuids: dict[str, str] = field(default_factory=dict)
    id_before: str = ""
    time_between: float = 0.0
    tickets: dict[str, str] = field(default_factory=dict)

    def heads(self, who: str) -> str:
        sent = ("authorization", "cookie", "sec-fetch-site")
        headers = self.clients[who].headers
        return "".join(f"{name}: {headers[name]}\r\n" for name in sent if name in headers) + "Connection: close\r\n"

    def url(self, who: str, path: str) -> str:
        """With the ticket, if this is how somebody asks."""
        if who not in self.tickets:
            return path
        return f"{path}{'&' if '?' in path else '?'}ticket={self.tickets[who]}"

    def get(self, who: str, path: str) -> str:
        answer = self.clients[who].get(self.url(who, path))
        return f"{answer.headers}\n{answer.text}"

    def post(self, who: str, path: str, body: object = None) -> str:
        answer = self.clients[who].post(self.url(who, path), json=body)
        return f"{answer.headers}\n{answer.text}"

    def stream(self, who: str, query: str = "", last_id: str = "", *, live: bool = False, body: object = None) -> str:
        path = self.url(who, f"/events{query}")
        reader = open_stream(self.server, path, last_id=last_id, headers=self.heads(who), body=body)
        try:
            wait_for(lambda: reader.ended or any(frame.event == "$ready" for frame in reader.frames))
            if live and not reader.ended:
                mark = uuid4().hex
                for event, data in ((SECRET, {DATA: DATA}), ("public/mark", mark)):
                    answer = self.clients["carol"].post("/insert", json={"event": event, "data": data})
                    assert answer.status_code == 201
                wait_for(lambda: any(mark in frame.data for frame in reader.frames))
            return reader.head + str(reader.frames)
        finally:
            reader.close()


PEOPLE = ("a stranger", "ada", "bob", "carol", "member", "auditor", "admin")
# Those who send something else than a token: to whom it belongs, and on which routes it counts (None: on all).
COOKIE = {"GET /events", "GET /snapshot", "GET /collections/{event}", "GET /collection/{event}"}
OTHERWISE: dict[str, tuple[str, set[str] | None]] = {
    "ada's cookie": ("ada", COOKIE),
    "bob's cookie": ("bob", COOKIE),
    "the admin's cookie": ("admin", COOKIE),
    "ada's cookie on another site": ("ada", set()),
    "ada's ticket": ("ada", {"GET /events"}),
    "bob's ticket": ("bob", {"GET /events"}),
    "the admin's ticket": ("admin", {"GET /events"}),
    "a program": ("bob", None),
    "the auditors' program": ("auditor", None),
    "a revoked key": ("a stranger", None),
}
WHO = (*PEOPLE, *OTHERWISE)
READERS = {"ada", "member", "admin"}


class Row(NamedTuple):
    """What a path shows to whom. ``routes`` are those that it is about."""

    name: str
    routes: tuple[str, ...]
    show: Callable[[Scene, str], str]
    allowed: frozenset[str] | set[str]  # which people see canaries there

    def shows_to(self, who: str) -> bool:
        person, routes = OTHERWISE.get(who, (who, None))
        return person in self.allowed and (routes is None or routes >= {*self.routes})


ROWS = [
    Row("the snapshot of a stream", ("GET /events",), lambda s, w: s.stream(w), READERS),
    Row("with the records whole", ("GET /events",), lambda s, w: s.stream(w, "?frames=record"), READERS),
    Row("with a prefix", ("GET /events",), lambda s, w: s.stream(w, "?event=secret/*&event=public/*"), READERS),
    # An exact name that the client asks for comes back in ``denied``, and says nothing about whether it exists.
    Row("with a list of names", ("POST /events",),
        lambda s, w: s.stream(w, body={"event": [SECRET, "public/1"]}).replace(NAME, ""), READERS),
    Row("live", ("GET /events",), lambda s, w: s.stream(w, f"?event=public/*&event={SECRET}", live=True)
        .replace(NAME, ""), READERS),
    Row("live, everything", ("GET /events",), lambda s, w: s.stream(w, live=True), READERS),
    Row("a resume from memory", ("GET /events",), lambda s, w: s.stream(w, last_id=s.id_before), READERS),
    Row("a resume from the beginning", ("GET /events",),
        lambda s, w: s.stream(w, last_id=s.id_before.partition("-")[0] + "-0"), READERS),
    Row("new names", ("GET /events",),
        lambda s, w: s.stream(w, "?event=secret/*&new=secret/*", last_id=s.id_before), READERS),
    Row("the state", ("GET /snapshot",), lambda s, w: s.get(w, "/snapshot"), READERS),
    Row("the state, without data", ("GET /snapshot",),
        lambda s, w: s.get(w, "/snapshot?data=no&order=newest"), READERS),
    Row("a search", ("GET /snapshot",), lambda s, w: s.get(w, f"/snapshot?search={NAME[-9:]}"), READERS),
    Row("the state of the past", ("GET /snapshot",), lambda s, w: s.get(w, f"/snapshot?at={s.time_between}"), READERS),
    Row("the state of the future", ("GET /snapshot",), lambda s, w: s.get(w, "/snapshot?at=4000000000"), READERS),
    Row("what is pending", ("GET /pending",), lambda s, w: s.get(w, "/pending"), {"ada", "carol", "auditor", "admin"}),
    Row("the log", ("GET /collections/{event}",), lambda s, w: s.get(w, f"/collections/{SECRET}"),
        {"ada", "auditor", "admin"}),
    Row("the log by its other name", ("GET /collection/{event}",), lambda s, w: s.get(w, f"/collection/{SECRET}"),
        {"ada", "auditor", "admin"}),
    Row("the log behind a record", ("GET /collections/{event}",),
        lambda s, w: s.get(w, f"/collections/{SECRET}?after={s.uuids['old']}"), {"ada", "auditor", "admin"}),
    Row("the schema", ("GET /schema/{event}",), lambda s, w: s.get(w, f"/schema/{SECRET}?versions=9").replace(NAME, ""),
        READERS),
    Row("the types", ("GET /types.d.ts",), lambda s, w: s.get(w, "/types.d.ts"), READERS),
    Row("cancelling", ("POST /cancel/{uuid}", "GET /cancel/{uuid}"),
        lambda s, w: s.post(w, f"/cancel/{s.uuids['published']}"), set()),
    Row("cancelling in a batch", ("POST /insert",),
        lambda s, w: s.post(w, "/insert", [{"cancel": s.uuids["published"]}]), set()),
    Row("an insert with its uuid", ("POST /insert",), lambda s, w: s.post(
        w, "/insert", {"event": "public/1", "data": 1, "uuid": s.uuids["published"]}), set()),
    Row("an insert on a condition", ("POST /insert",), lambda s, w: s.post(
        w, "/insert", {"event": SECRET, "data": 1, "if_latest": "none"}), READERS),
    Row("rights", ("GET /rights",), lambda s, w: s.get(w, f"/rights?event={SECRET}"), set()),
    Row("rules", ("POST /rules/check",), lambda s, w: s.post(
        w, "/rules/check", {"who": "bob", "operation": "read", "event": "secret/ada/1"}), set()),
    Row("users", ("GET /users", "GET /users/me"), lambda s, w: s.get(w, "/users") + s.get(w, "/users/me"), set()),
    Row("metrics", ("GET /metrics",), lambda s, w: s.get(w, "/metrics"), set()),
]  # fmt: skip
# Routes that show nothing of the log: they are about the account of whoever asks, or the same for everybody.
WITHOUT = {
    "POST /admin", "POST /login",
    "POST /token", "POST /logout", "POST /users", "POST /users/me/password", "POST /users/{id}/roles",
    "POST /session", "DELETE /session", "POST /users/{id}/erase", "GET /keys", "POST /keys", "POST /keys/{id}/revoke",
    "POST /users/{id}/disable", "POST /users/{id}/enable", "POST /users/{id}/reset", "GET /openapi.json", "GET /docs",
    "GET /broker.js", "GET /broker/{version}/{file}", "GET /broker.d.ts", "GET /broker.tgz", "GET /llms.txt",
    "GET /about", "GET /", "GET /$console", "GET /$console/{version}/{file}",
    "GET /healthz", "GET /readyz", "GET /cancel", "POST /cancel",
}  # fmt: skip
# The kinds of frames of Broker's own. None has a name or data of a record, but ``denied``, which repeats the request.
CONTROLS = {"ready", "skipped", "reset", "login", "passed", "pending", "heartbeat"}


@pytest.fixture(scope="module", params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ServerProcess(tmp_path_factory.mktemp("leaks"), *options_of(request.param, request)) as server:
        clients = {who: server.client(None if who == "a stranger" else who) for who in PEOPLE}
        scene = Scene(server, clients)
        # An administrator admits the member before there are rules against it.
        assert clients["carol"].post("/insert", json={"event": "club/member", "data": True}).status_code == 201
        apply_rules(server, RULES + OTHERS)
        give_roles(server, "admin", "admin")
        give_roles(server, "auditor", "auditor")
        _add_the_others(scene)
        carol = clients["carol"]
        scene.id_before = insert(carol, "public/1", {"n": 1})["id"]
        scene.uuids["old"] = insert(carol, SECRET, {OLD: OLD})["uuid"]
        scene.time_between = time.time()
        scene.uuids["published"] = insert(carol, SECRET, {DATA: DATA})["uuid"]
        scene.uuids["pending"] = insert(carol, SECRET, {PENDING: PENDING}, timestamp=3_900_000_000)["uuid"]
        wait_for(lambda: NAME in scene.get("admin", f"/snapshot?at={scene.time_between}"))
        yield scene
        for client in clients.values():
            client.close()


def _add_the_others(scene: Scene) -> None:
    """Who sends a cookie, a ticket or an API key."""
    server, clients = scene.server, scene.clients
    for who, (person, routes) in OTHERWISE.items():
        headers: dict[str, str] = {}
        if "cookie" in who:
            cookie = clients[person].post("/session").headers["set-cookie"].partition(";")[0]
            clients[person].cookies.clear()
            headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin" if routes else "cross-site"}
        elif "ticket" in who:
            scene.tickets[who] = clients[person].post("/session", json={"ticket": True}).json()["ticket"]
        else:
            roles = ["auditor"] if person == "auditor" else []
            key = operate(server, "POST", "/keys", {"name": who.replace(" ", "-").replace("'", ""), "roles": roles})
            headers = {"Authorization": f"Bearer {key['key']}"}
            if who == "a revoked key":
                operate(server, "POST", f"/keys/{key['id']}/revoke")
        clients[who] = server.client()
        clients[who].headers.update(headers)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_private_record_is_shown_only_to_those_who_may_read_it(scene: Scene, row: Row, who: str) -> None:
    shown = row.show(scene, who)
    found = [canary for canary in ALL if canary in shown]
    assert bool(found) == row.shows_to(who), f"{who} was shown {found}"


@pytest.mark.parametrize("who", sorted(set(PEOPLE) - {"ada", "auditor", "admin", "carol"}))
@pytest.mark.parametrize("path", ["/pending", "/snapshot?at=4000000000", "/events?event=public/*&event=secret/*"])
def test_what_is_pending_is_for_its_author_and_who_may_read_the_log(scene: Scene, who: str, path: str) -> None:
    assert PENDING not in (scene.stream(who, path[7:]) if path.startswith("/events") else scene.get(who, path))


@pytest.fixture(scope="module", params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Users may read every event, and only staff may read the logs."""
    with ServerProcess(tmp_path_factory.mktemp("board"), *options_of(request.param, request)) as server:
        scene = Scene(server, {who: server.client(who) for who in ("ada", "bob", "staff", "admin")})
        apply_rules(
            server,
            'roles = ["staff"]\n[[event]]\nname = "*"\nread = "user"\ninsert = "user"\nlog = "@staff"\nopen = true\n',
        )
        give_roles(server, "staff", "staff")
        give_roles(server, "admin", "admin")
        insert(scene.clients["ada"], "news/1", DATA)
        insert(scene.clients["ada"], "news/1", PENDING, timestamp=3_900_000_000)
        yield scene
        for client in scene.clients.values():
            client.close()


@pytest.mark.parametrize("who", ["ada", "bob", "staff", "admin"])
@pytest.mark.parametrize("path", ["/pending", "/snapshot?at=4000000000", "/snapshot", "/collections/news/1"])
def test_whoever_may_read_every_event_may_not_see_every_pending_record(board: Scene, who: str, path: str) -> None:
    shown = board.get(who, path)
    log = path.startswith("/collections")
    assert (PENDING in shown) == (path != "/snapshot" and (who in ("staff", "admin") or (who == "ada" and not log)))
    if who == "bob" and not log and path != "/pending":  # the version that bob sees is not hidden by the pending one
        assert DATA in shown


@pytest.mark.parametrize("who", ["a stranger", "bob"])
@pytest.mark.parametrize("path", ["/events?event={}", "/collections/{}", "/schema/{}", "/rights?event={}"])
def test_a_refusal_is_the_same_whether_or_not_there_is_such_an_event(scene: Scene, who: str, path: str) -> None:
    there, nowhere = (scene.clients[who].get(path.format(name)) for name in (SECRET, "secret/ada/none"))
    assert there.status_code == nowhere.status_code
    assert there.text == nowhere.text


@pytest.mark.parametrize("who", sorted(set(PEOPLE) - {"admin"}))
@pytest.mark.parametrize("name", ["$rules", "$user/1"])
def test_brokers_own_events_are_for_administrators(scene: Scene, who: str, name: str) -> None:
    assert scene.clients[who].get(f"/collections/{name}").status_code in (401, 403)
    assert "toml" not in scene.stream(who) + scene.get(who, "/snapshot?at=4000000000") + scene.get(who, "/pending")
    assert scene.clients[who].post("/insert", json={"event": name, "data": 1}).status_code in (400, 401, 403)


def test_an_administrator_reads_the_rules_and_writes_them_only_if_the_settings_permit_it(scene: Scene) -> None:
    assert "toml" in scene.get("admin", "/collections/$rules")
    body = {"event": "$rules", "data": {"format": 1, "toml": RULES}}
    assert scene.clients["admin"].post("/insert", json=body).status_code == 403
    scheduled = operate(scene.server, "POST", "/insert", body | {"timestamp": 3_900_000_000})
    assert scene.clients["admin"].post(f"/cancel/{scheduled['uuid']}").status_code == 404
    operate(scene.server, "POST", f"/cancel/{scheduled['uuid']}")


@pytest.mark.parametrize("path", ["/collections/public/1", "/pending"])
def test_only_whoever_may_read_the_log_learns_that_a_uuid_is_one_of_it(scene: Scene, path: str) -> None:
    for known in (scene.uuids["old"], scene.uuids["pending"]):
        answers = [
            scene.clients["bob"].get(f"{path}?after={uuid}") for uuid in (known, "01890a5d-ac96-774b-bcce-b302099a8057")
        ]
        assert {answer.status_code for answer in answers} in ({400}, {403})
        assert len({re.sub("[0-9a-f-]{36}", "", answer.text) for answer in answers}) == 1
    for who in ("ada", "carol", "auditor", "admin"):  # they may see it, or have inserted it
        assert scene.clients[who].get(f"/pending?after={scene.uuids['pending']}").status_code == 200


@pytest.mark.parametrize(("who", "kind", "shown"), [
    ("a stranger", "guest", False), ("a stranger", "signed", True), ("bob", "guest", True),
])  # fmt: skip
def test_a_condition_that_is_not_met_shows_strangers_an_author_only_if_the_rule_does(
    scene: Scene, who: str, kind: str, *, shown: bool
) -> None:
    event = f"{kind}/{uuid4()}"
    insert(scene.clients["carol"], event, 1)
    body = {"event": event, "data": 2, "if_latest": "none"}
    for sent, headers in ((body, {}), ([body], {}), (body, {"Prefer": "return=minimal"})):
        answer = scene.clients[who].post("/insert", json=sent, headers=headers)
        assert answer.status_code == 412
        assert ("carol" in answer.text) == (shown and not headers)
        assert answer.json()["latest"].get("data") == (None if headers else 1)


@pytest.mark.parametrize(("who", "shown"), [("bob", False), ("carol", True), ("auditor", True), ("admin", True)])
def test_the_right_to_cancel_is_no_right_to_read(scene: Scene, who: str, *, shown: bool) -> None:
    client = scene.clients[who]
    for by_batch in (True, False):
        record = insert(scene.clients["carol"], "drop/1", 1, timestamp=3_900_000_000)
        expected = record | {"published": True, "cancelled": True}
        if not shown:
            del expected["data"], expected["user"]
        for _ in range(2):  # the second request repeats the first one
            if by_batch:
                assert client.post("/insert", json=[{"cancel": record["uuid"]}]).json() == [expected]
            else:
                assert client.post(f"/cancel/{record['uuid']}").json() == expected


def test_a_stranger_cannot_try_out_the_data_of_what_the_operator_has_inserted(scene: Scene) -> None:
    body = {"event": f"{SECRET}/op", "data": 5000, "uuid": str(uuid4())}
    operate(scene.server, "POST", "/insert", body)
    changes: list[dict[str, object]] = [{}, {"data": 6000}, {"uuid": str(uuid4())}]
    refusals = [scene.clients["a stranger"].post("/insert", json=body | change) for change in changes]
    assert {refusal.status_code for refusal in refusals} == {401}
    assert len({refusal.text for refusal in refusals}) == 1


def test_every_route_is_in_a_row() -> None:
    served = {
        f"{method} {route.path.replace(':path', '')}"
        for route in create_app().routes
        for method in route.app.endpoints  # type: ignore[attr-defined] # a Methods
        if method != "HEAD"
    }
    assert served == {route for row in ROWS for route in row.routes} | WITHOUT


def test_every_kind_of_frame_is_known() -> None:
    source = Path(sse.__file__).read_text()
    assert set(re.findall(r'control\("(\w+)"', source)) == CONTROLS
