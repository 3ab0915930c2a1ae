"""``broker rules``: who may do what, written by the operator."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.cli.client import ClientError
from broker.cli.operator import operator
from broker.cli.rules_report import abilities
from broker.rules.file import parse_file
from tests.support.commands import done, refused, run
from tests.support.rules import NARROW, WIDE
from tests.support.servers import ServerProcess, streaming, wait_for


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in which no server runs."""
    return tmp_path / "data"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


@pytest.fixture
def server(data: Path) -> Iterator[ServerProcess]:
    with ServerProcess(data) as running:
        yield running


def apply(data: Path, file: Path, text: str, *options: object) -> str:
    file.write_text(text)
    return done("rules", "apply", file, "--data", data, *options).stderr


def history(data: Path) -> list[str]:
    """The states of all versions."""
    return [line.split("  ")[1] for line in done("rules", "history", "--data", data).stdout.splitlines()]


class TestInit:
    def test_the_file_that_it_writes_is_accepted_as_it_is(self, data: Path, file: Path) -> None:
        done("rules", "init", file)
        report = apply(data, file, file.read_text())
        assert "as expected: 3 expectations" in report
        assert "these rules are in force now" in report

    def test_a_file_that_is_there_is_not_replaced(self, file: Path) -> None:
        file.write_text("mine")
        assert "rules.toml is there already" in refused(run("rules", "init", file))
        assert file.read_text() == "mine"


class TestApply:
    def test_the_text_is_kept_to_the_byte(self, data: Path, file: Path) -> None:
        text = b'# Gr\xc3\xbc\xc3\x9fe\t"\\ \xf0\x9f\x8c\x8d\r\n[[event]]\r\nname = "\xc3\xa4/*"\r\nread = "user"  '
        file.write_bytes(text)
        done("rules", "apply", file, "--data", data)
        shown = subprocess.run(
            [sys.executable, "-m", "broker", "rules", "show", "--data", str(data)],
            capture_output=True, timeout=30, check=True,
        )  # fmt: skip
        assert shown.stdout == text

    def test_it_says_which_log_has_the_rules_now(self, data: Path, file: Path) -> None:
        assert f"in force now: a new log in {data}, on which no server runs" in apply(data, file, NARROW)
        with ServerProcess(data):
            assert f"in force now: the server on {data}" in apply(data, file, NARROW + "# 2\n")

    def test_what_is_probably_a_slip_of_the_pen_is_shown(self, data: Path, file: Path) -> None:
        report = apply(
            data, file,
            NARROW + '[[event]]\nname = "a"\nread = "if membr/{me}"\n[[expect]]\nwho = "ada"\ncannot = "read bord/1"\n',
        )  # fmt: skip
        assert 'line 5: "if membr/{me}": no rule covers this event' in report
        assert 'line 8: "bord/1": no rule covers this event, so nobody can' in report

    def test_a_time_that_has_passed_is_refused(self, data: Path, file: Path) -> None:
        file.write_text(NARROW)
        message = refused(run("rules", "apply", file, "--data", data, "--at", "2020-01-01T00:00:00Z"))
        assert "--at: 2020-01-01 00:00:00 UTC has passed" in message

    def test_a_running_server_obeys_at_once(self, server: ServerProcess, data: Path, file: Path) -> None:
        with server.client("ada") as ada, server.client() as stranger, streaming(server) as reader:
            ada.post("/insert", json={"event": "board/1", "data": "mine"})
            ada.post("/insert", json={"event": "other", "data": 1})
            reader.wait("board/1")
            report = apply(data, file, NARROW)
            assert "no rule covers 1 event, so only administrators see them: other" in report
            assert stranger.get("/snapshot").json() == []
            assert [record["event"] for record in ada.get("/snapshot").json()] == ["board/1"]
            reader.wait("$reset")

    def test_what_becomes_wider_needs_consent_and_without_a_terminal_it_never_waits(
        self, data: Path, file: Path
    ) -> None:
        apply(data, file, NARROW)
        file.write_text(WIDE)
        message = refused(run("rules", "apply", file, "--data", data))
        assert "wider: board/*: read by public (before: user)" in message
        assert "there is no terminal to ask" in message
        assert "add --yes" in message
        assert done("rules", "show", "--data", data).stdout == NARROW
        assert "wider: board/*" in apply(data, file, WIDE, "--yes")
        assert done("rules", "show", "--data", data).stdout == WIDE

    @pytest.mark.parametrize(("answer", "shown"), [("n", NARROW), ("y", WIDE)])
    def test_in_a_terminal_it_asks(self, data: Path, file: Path, answer: str, shown: str) -> None:
        apply(data, file, NARROW)
        file.write_text(WIDE)
        person, terminal = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "broker", "rules", "apply", str(file), "--data", str(data)],
            stdin=terminal, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            os.write(person, f"{answer}\n".encode())
            assert "Apply these rules?" in process.communicate(timeout=30)[1]
        os.close(person)
        os.close(terminal)
        assert done("rules", "show", "--data", data).stdout == shown

    def test_what_becomes_narrower_needs_none(self, data: Path, file: Path) -> None:
        apply(data, file, WIDE)
        assert "wider" not in apply(data, file, NARROW)

    def test_the_same_rules_make_no_further_version(self, data: Path, file: Path) -> None:
        apply(data, file, NARROW)
        assert "these are the rules already" in apply(data, file, NARROW)
        assert history(data) == ["in force"]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ('[[event]]\nname = "a"\nreed = "user"\n', 'line 3: "reed" has no meaning here; did you mean "read"?'),
            ("[[event]\n", "rules.toml: "),
            (WIDE + '[[expect]]\nwho = "public"\ncannot = "read board/1"\n', "not as expected that a stranger cannot"),
            ("\ufeff" + WIDE, "rules.toml: "),
            ("# being written", "without a table [[event]] only administrators could do anything"),
        ],
    )
    def test_a_wrong_file_is_refused_with_a_sentence(self, data: Path, file: Path, text: str, sentence: str) -> None:
        file.write_text(text)
        assert sentence in refused(run("rules", "apply", file, "--data", data))
        assert not data.exists()

    def test_a_file_that_is_not_there_is_refused(self, data: Path, file: Path) -> None:
        assert "No such file" in refused(run("rules", "apply", file, "--data", data))

    def test_an_administrator_applies_rules_over_http_only_where_the_settings_permit_it(
        self, tmp_path: Path, file: Path
    ) -> None:
        for permitted in "no", "yes":
            with ServerProcess(tmp_path / permitted, rules_over_http=permitted) as server:
                where = ["--url", server.url, "--token", server.token("ada")]
                done("user", "role", "ada", "admin", "--data", server.data)
                file.write_text(NARROW)
                result = run("rules", "apply", file, *where)
                if permitted == "yes":
                    assert result.exit_code == 0, result.output
                    assert done("rules", "show", *where).stdout == NARROW
                else:
                    assert "rules_over_http=yes" in refused(result)


class TestSchedule:
    def test_scheduled_rules_take_effect_at_their_time(self, server: ServerProcess, data: Path, file: Path) -> None:
        with server.client() as stranger:
            assert "in force from" in apply(data, file, NARROW, "--at", "+1s")
            assert history(data) == ["scheduled"]
            assert allowed(stranger)
            wait_for(lambda: not allowed(stranger), what="the rules")
        assert history(data) == ["in force"]

    def test_they_are_withdrawn_one_by_one(self, server: ServerProcess, data: Path, file: Path) -> None:
        apply(data, file, NARROW, "--at", "+1h")
        uuid = done("rules", "history", "--data", data).stdout.split()[-1]
        done("rules", "cancel", uuid, "--data", data)
        assert history(data) == ["cancelled"]
        assert "no rules have the uuid x" in refused(run("rules", "cancel", "x", "--data", data))

    def test_who_applies_rules_learns_which_follow_and_whether_they_are_wider(self, data: Path, file: Path) -> None:
        apply(data, file, WIDE)
        apply(data, file, WIDE + '[[event]]\nname = "x"\nread = "user"\n', "--at", "+1h", "--yes")
        report = apply(data, file, NARROW)
        assert "scheduled: other rules follow at" in report
        assert "permit more than these: board/*: read by public" in report
        assert history(data) == ["superseded", "in force", "scheduled"]

    def test_replace_withdraws_all_that_is_scheduled(self, data: Path, file: Path) -> None:
        apply(data, file, WIDE, "--at", "+1h")
        apply(data, file, NARROW, "--at", "+2h")
        assert apply(data, file, NARROW, "--replace").count("withdrawn: ") == 2
        assert history(data) == ["in force", "cancelled", "cancelled"]

    def test_scheduled_rules_are_compared_with_those_that_hold_before_them(self, data: Path, file: Path) -> None:
        apply(data, file, NARROW)
        apply(data, file, WIDE, "--at", "+1h", "--yes")
        assert "wider" not in apply(data, file, WIDE + "# the same\n", "--at", "+2h")
        file.write_text(WIDE + "# earlier\n")
        assert "wider" in refused(run("rules", "apply", file, "--data", data, "--at", "+30m"))


def allowed(client: httpx.Client) -> bool:
    answer: dict[str, Any] = client.get("/rights?event=board/1").json()
    return bool(answer["read"])


class TestCheck:
    def test_it_names_the_rule_that_decides(self, data: Path, file: Path) -> None:
        apply(data, file, NARROW + '[[event]]\nname = "board/{who}"\ninsert = "{who}"\n')
        done("user", "add", "ada", "--password", "correct horse", "--data", data)

        def check(*question: str) -> tuple[int, str]:
            result = run("rules", "check", *question, "--data", data)
            return result.exit_code, result.stdout

        assert check("ada", "insert", "board/ada") == (
            0, 'ada may insert board/ada: the rule "board/{who}" (line 5) decides\n',
        )  # fmt: skip
        assert check("public", "read", "board/a/b") == (
            1, 'public may not read board/a/b: the rule "board/*" (line 2) decides\n',
        )  # fmt: skip
        assert check("ada", "read", "x") == (1, "ada may not read x: no rule covers it: nobody\n")
        assert check("ada", "cancel", "board/1") == (
            0, 'ada may, if the record is the user\'s own, cancel board/1: the rule "board/{who}" (line 5) decides\n',
        )  # fmt: skip
        done("user", "disable", "ada", "--data", data)
        assert check("ada", "insert", "board/ada") == (1, "ada may not insert board/ada: this user is disabled\n")
        assert "no user is called bob" in refused(run("rules", "check", "bob", "read", "x", "--data", data))
        assert "operation: expected one of" in refused(run("rules", "check", "ada", "see", "x", "--data", data))

    def test_without_rules_it_says_so(self, server: ServerProcess, data: Path) -> None:
        assert "there are no rules" in done("rules", "check", "public", "read", "x", "--data", data).stdout
        assert "this log has no rules" in refused(run("rules", "show", "--data", data))


def test_diff_shows_what_changes_and_what_becomes_wider(data: Path, file: Path) -> None:
    apply(data, file, NARROW)
    file.write_text(WIDE.rstrip("\n"))
    result = done("rules", "diff", file, "--data", data)
    assert result.stdout.splitlines()[-2:] == ['-read = "user"', '+read = "public"']
    assert result.stderr == "wider: board/*: read by public (before: user)\n"


def test_the_history_says_who_has_written_each_version(tmp_path: Path, file: Path) -> None:
    with ServerProcess(tmp_path / "data", rules_over_http="yes") as server, server.client("ada") as ada:
        apply(server.data, file, NARROW)
        done("user", "role", "ada", "admin", "--data", server.data)
        body = {"event": "$rules", "data": {"format": 1, "toml": WIDE}}
        assert ada.post("/insert", json=body).status_code == 201
        lines = [line.split()[3:-1] for line in done("rules", "history", "--data", server.data).stdout.splitlines()]
    assert lines == [["superseded", "the", "operator"], ["in", "force", "ada"]]


def test_rules_that_somebody_else_applies_meanwhile_are_not_replaced_unseen(data: Path, file: Path) -> None:
    """The command names the version that it has compared with, and a later one makes the insert fail."""
    apply(data, file, NARROW)
    with operator(data, None, None) as ask:
        (compared,) = ask.json("GET", "/collections/$rules")
        new = {"event": "$rules", "data": {"format": 1, "toml": WIDE}, "if_latest": compared["id"]}
        ask.json("POST", "/insert", new)
        with pytest.raises(ClientError, match=r"\(412\)"):
            ask.json("POST", "/insert", new)


class TestAbilities:
    """The table of what everybody can do."""

    def test_a_role_is_shown_with_what_every_user_cannot_do(self) -> None:
        text = """
            roles = ["one", "two"]
            [[event]]
            name = "a/{who}"
            read = "public"
            insert = "{who}"
            log = ["@one", "@two"]
            cancel = "nobody"
            [[event]]
            name = "b"
            read = ["if a/{me}", "@two"]
            remove = "@one and if a/x"
            cancel = "nobody"
        """
        assert list(abilities(parse_file(text).rules)) == [
            "a stranger  read    a/{who}",
            "a user      read    ~b",
            "a user      insert  ~a/{who}",
            "a user      remove  ~a/{who}",
            "@one        remove  ~b",
            "@one        log     a/{who}",
            "@two        read    b",
            "@two        log     a/{who}",
            "~: only who is in the name of the event, has inserted the record, or fulfils the rule's condition",
        ]

    def test_rules_without_a_right_give_none(self) -> None:
        assert list(abilities(parse_file("").rules)) == [
            "a stranger  nothing",
            "a user      nothing more than the above",
        ]

    def test_it_says_that_whoever_signs_up_is_a_user(self) -> None:
        assert "as long as sign-up is open" in list(abilities(parse_file(NARROW).rules))[-1]
