"""``broker verify``, ``export``, ``import`` and ``move`` on a log with rules, roles and users who were disabled."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.names import USER_EVENT
from broker.operations.backup import backup, restore
from broker.operations.export import export_log, import_log, read_head
from broker.operations.move import move_log
from broker.store.sqlite.file import connect
from broker.users import STRANGER_ACTOR
from tests.support.operators import tamper
from tests.support.people import ADA, BOB, EVE, People, people_in
from tests.support.postgres import a_database
from tests.support.store import Workbench, faults

RULES = """
roles = ["editor"]
[[event]]
name = "a/*"
insert = ["user", "@editor"]
[[event]]
name = "contact"
insert = "public"
max_bytes = 9
rate = "9/minute"
"""
BOBS_STATE, EVES_STATE = (f"{USER_EVENT}{actor.user_id}" for actor in (BOB, EVE))
ANOTHER_STATE = "a user is in another state than the newest record of $user says"
RIGHTS_TABLES = ("users", "records", "publications", "pending", "cancellations", "events", "state")


async def fill(bench: Workbench) -> None:
    async with people_in(bench, RULES) as people:  # 1
        await people.insert("a/1", "false", BOB)  # 2
        await people.insert("a/2", "1", BOB, 1_000)  # 3, which the server cancels
        await people.insert("a/3", "1", ADA, 1_000)  # 4, which ada cancels
        await people.store.cancel((await people.log("a/3"))[0].uuid, ADA)
        await people.set_rules(RULES, 9_000)  # 5, which is pending
        await people.insert("contact", "1", STRANGER_ACTOR)  # 6
        await people.state(EVE, roles=("editor",), ended=("a", "b"))  # 7
        await people.state(BOB, disabled=True, gen=2)  # 8
        await people.publish_due_after(2_000)


@pytest.fixture(name="log", scope="module")
def make_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rights")
    asyncio.run(fill(Workbench(folder)))
    return folder


def content(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(folder / "broker.db")) as log:
        return {table: sorted(log.execute(f"SELECT * FROM {table}"), key=repr) for table in RIGHTS_TABLES}


def test_the_log_is_as_the_tests_here_expect_it(log: Path) -> None:
    assert faults(log) == []
    with closing(connect(log / "broker.db")) as db:
        assert db.execute("SELECT number, user, reason FROM cancellations ORDER BY number").fetchall() == [
            (3, "", "the user who inserted it is disabled"), (4, "ada", None),
        ]  # fmt: skip
        assert db.execute("SELECT event, bytes, pending, reserved, falsy FROM events ORDER BY event").fetchall() == [
            ("$rules", 0, 1, 0, 0), (BOBS_STATE, 0, 0, 0, 0), (EVES_STATE, 0, 0, 0, 0),
            ("a/1", 5, 0, 5, 1), ("contact", 1, 0, 1, 0),
        ]  # fmt: skip
        assert db.execute("SELECT event_names, reserved_bytes, removals, rights, head FROM state").fetchone() == (
            2, 6, 0, 5, 5,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("tampering", "complaint"),
    [
        ("UPDATE users SET roles = 'x' WHERE username = 'eve'", f"{ANOTHER_STATE}: {EVE.user_id}"),
        ("UPDATE users SET roles = '[\"admin\"]' WHERE username = 'ada'", f"{ANOTHER_STATE}: {ADA.user_id}"),
        ("UPDATE users SET ended = '[\"a\"]' WHERE username = 'eve'", f"{ANOTHER_STATE}: {EVE.user_id}"),
        ("UPDATE users SET disabled = 0 WHERE username = 'bob'", f"{ANOTHER_STATE}: {BOB.user_id}"),
        ("UPDATE users SET gen = 0 WHERE username = 'bob'", f"{ANOTHER_STATE}: {BOB.user_id}"),
        ("DELETE FROM users WHERE username = 'bob'", f"a record of $user is about nobody: {BOBS_STATE}"),
        ("UPDATE records SET data = '{' WHERE number = 8", "record 8 cannot be read: $user"),
        ("UPDATE records SET data = 'null' WHERE number = 1", "record 1 cannot be read: $rules"),
        ("UPDATE records SET event = '$other' WHERE number = 2", "record 2 cannot be read: event"),
        ("UPDATE state SET rights = 4", "the counters of the log are wrong"),
        ("UPDATE state SET event_names = 5", "the counters of the log are wrong"),
        ("UPDATE events SET falsy = 0 WHERE event = 'a/1'", "or the other way round: a/1"),
        ("UPDATE events SET falsy = 1 WHERE event = 'contact'", "or the other way round: contact"),
        ("UPDATE events SET bytes = 9 WHERE event = '$rules'", "another length than it says: $rules"),
        ("UPDATE events SET reserved = 9 WHERE event = '$rules'", "than its records may need: $rules"),
        (f"DELETE FROM events WHERE event = '{EVES_STATE}'", f"no row in the table events: {EVES_STATE}"),
        ("UPDATE cancellations SET reason = NULL WHERE number = 3", "cancelled when it was due already: 3"),
        ("UPDATE cancellations SET reason = 'x' WHERE number = 4", "refused by the server before it was due: 4"),
        ("UPDATE cancellations SET user = 'ada' WHERE number = 3", "has a reason, which only the server gives: 3"),
    ],
)
def test_verify_complains_of_tampering_with_rights(log: Path, tmp_path: Path, tampering: str, complaint: str) -> None:
    changed = Path(shutil.copytree(log, tmp_path / "changed"))
    tamper(changed, tampering)
    assert complaint in "\n".join(faults(changed))


def test_everything_about_rights_is_the_same_after_an_import(log: Path, tmp_path: Path) -> None:
    lines = export_log(log / "broker.db", lambda _: None)
    import_log(tmp_path / "broker.db", read_head(lines), lines, lambda _: None)
    assert content(tmp_path) == content(log)
    assert faults(tmp_path) == []


def test_everything_about_rights_is_the_same_in_a_backup(log: Path, tmp_path: Path) -> None:
    backup(log / "broker.db", tmp_path / "copy.db", lambda done, total: None)
    restore(tmp_path / "copy.db", tmp_path / "broker.db", lambda done, total: None)
    before, after = content(log), content(tmp_path)
    (old, new) = before.pop("state"), after.pop("state")
    assert after == before
    assert [row[:-1] for row in new] == [row[:-1] for row in old]
    assert new != old  # the salt of the tokens, so that all sessions end


@pytest.mark.postgres
def test_everything_about_rights_is_the_same_after_a_move_there_and_back(
    log: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, back = Path(shutil.copytree(log, tmp_path / "source")), tmp_path / "back"
    database = a_database(request.getfixturevalue("postgres"))
    move_log(str(source), database, lambda done, total: None)
    move_log(database, str(back), lambda done, total: None)
    before, after = content(log), content(back)
    for table in ("users", "records", "publications", "pending", "cancellations", "events"):
        assert after[table] == before[table]
    assert faults(back) == []


def test_after_an_import_the_same_people_have_the_same_rights(log: Path, tmp_path: Path) -> None:
    async def ask() -> list[str]:
        bench = Workbench(tmp_path)
        async with bench.opened() as store:
            people = People(bench, store)
            actors = [ADA, BOB, BOB._replace(gen=2), EVE._replace(session="a"), STRANGER_ACTOR]
            results = [
                await asyncio.gather(people.insert("a/9", "1", actor), return_exceptions=True) for actor in actors
            ]
            return [type(result).__name__ for (result,) in results]

    lines = export_log(log / "broker.db", lambda _: None)
    import_log(tmp_path / "broker.db", read_head(lines), lines, lambda _: None)
    assert asyncio.run(ask()) == ["Record", "Unauthorized", "Unauthorized", "Unauthorized", "Unauthorized"]
