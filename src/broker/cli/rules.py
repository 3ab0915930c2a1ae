"""``broker rules``: who may do what."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from time import time as now
from typing import Any

import click

from broker.cli.client import ClientError
from broker.cli.operator import Ask, config_option, data_option, operator, operator_options
from broker.cli.options import PathOption, settings_of
from broker.cli.rules_report import abilities, doubtful, uncovered
from broker.cli.rules_versions import Version, in_force, read_versions, shown_time
from broker.cli.values import amount, read_moment
from broker.names import RULES_EVENT
from broker.rules.file import RulesFile
from broker.rules.rights import FORMAT
from broker.rules.rules import Rules
from broker.rules.wider import widenings
from broker.server.rules_file import read_rules_file
from broker.store.confirmation import mark, unconfirmed

_LATE_MAX_S = 60  # a time that has passed this long ago was probably not meant
_TEMPLATE = Path(__file__).with_name("rules.toml")


@click.group("rules")
def rules() -> None:
    """Say who may do what."""


@rules.command("init")
@click.argument("file", default=Path("rules.toml"), type=PathOption())
def rules_init(file: Path) -> None:
    """Write a commented rules file, with an open board, rooms and a form."""
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(_TEMPLATE.read_text("utf-8"))
    except FileExistsError:
        raise ClientError(f"{file} is there already; give another name") from None
    except OSError as error:
        raise ClientError(f"cannot write {file}: {error.strerror}") from None
    click.echo(f"{file}: edit it, then `broker rules apply {file}`", err=True)


@rules.command("apply")
@click.argument("file", type=PathOption())
@click.option("--at", metavar="TIME", help="When the rules take effect: RFC 3339, seconds, or as +10m.  [default: now]")
@click.option("--yes", is_flag=True, help="Do not ask, even if something becomes wider.")
@click.option("--replace", is_flag=True, help="Withdraw all rules that are scheduled, so that none follow these.")
@operator_options
def rules_apply(file: Path, at: str | None, yes: bool, replace: bool, **options: Any) -> None:
    """Check a rules file, show what it changes, and make it the rules."""
    text, parsed = read_rules_file(file)
    time = None if at is None else float(read_moment(at, "--at"))
    if time is not None and time < now() - _LATE_MAX_S:
        raise ClientError(f"--at: {shown_time(time)} has passed; without --at, the rules take effect now")
    with operator(**options, new=True) as ask:
        versions = read_versions(ask)
        others = [version for version in versions if version.scheduled]
        kept = [version for version in versions if not (replace and version.scheduled)]
        before = in_force(kept, time)
        if before is not None and before.text == text:
            click.echo("these are the rules already", err=True)
        else:
            names = [record["event"] for record in ask.json("GET", "/snapshot?data=no")]
            wider = _report(parsed, before, names)
            _report_later(parsed.rules, [other for other in kept if other.scheduled and other.time > (time or 0)])
            if wider and not yes:
                _ask_for_consent()
            _insert(ask, text, time, in_force(versions))
        for other in others if replace else ():
            ask.json("POST", f"/cancel/{other.uuid}")
            click.echo(f"withdrawn: the rules that were scheduled for {shown_time(other.time)}", err=True)


def _insert(ask: Ask, text: str, time: float | None, before: Version | None) -> None:
    body: dict[str, Any] = {"event": RULES_EVENT, "data": {"format": FORMAT, "toml": text}}
    if time is not None and time > now():
        body["timestamp"] = time
    else:
        # Somebody else may have applied other rules since they were compared, and these may be wider than those.
        body["if_latest"] = "none" if before is None else before.id
    try:
        record = ask.json("POST", "/insert", body)
    except ClientError as error:
        if error.status != 412:
            raise
        raise ClientError(
            "somebody has applied other rules in this moment; apply these again, if they still fit"
        ) from None
    when = "now" if record["id"] else f"from {shown_time(record['timestamp'])} on ({record['uuid']})"
    click.echo(f"these rules are in force {when}: {ask.place}", err=True)


def _report(parsed: RulesFile, before: Version | None, names: list[str]) -> int:
    """Prints what the rules mean, to standard error. Returns how much becomes wider than ``before``."""
    after = parsed.rules
    for line in abilities(after):
        click.echo(line, err=True)
    for line in doubtful(parsed):
        click.echo(line, err=True)
    if parsed.expectations:
        click.echo(f"as expected: {amount(len(parsed.expectations), 'expectation')}", err=True)
    if lost := uncovered(after, names):
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        click.echo(f"no rule covers {amount(len(lost), 'event')}, so only administrators see them: {shown}", err=True)
    wider = [] if before is None else widenings(before.rules, after)
    for widening in wider:
        click.echo(f"wider: {widening}", err=True)
    return len(wider)


def _report_later(after: Rules, later: list[Version]) -> None:
    """Prints which rules are scheduled to follow, since they may permit again what was just forbidden."""
    for version in later:
        wider = widenings(after, version.rules)
        more = f", and permit more than these: {wider[0]}" if wider else ""
        click.echo(
            f"scheduled: other rules follow at {shown_time(version.time)}{more} (`broker rules cancel {version.uuid}` "
            "withdraws them, --replace all of them)",
            err=True,
        )


def _ask_for_consent() -> None:
    if not sys.stdin.isatty():
        raise ClientError(
            "these rules permit more than those in force, and there is no terminal to ask whether that is meant; if it "
            "is, add --yes"
        )
    click.confirm("Apply these rules?", abort=True, err=True)


@rules.command("cancel")
@click.argument("uuid")
@operator_options
def rules_cancel(uuid: str, **options: Any) -> None:
    """Withdraw rules that are scheduled. `broker rules history` lists them."""
    with operator(**options) as ask:
        if uuid not in {version.uuid for version in read_versions(ask)}:
            raise ClientError(f"no rules have the uuid {uuid}; `broker rules history` lists them")
        ask.json("POST", f"/cancel/{uuid}")
    click.echo("withdrawn", err=True)


@rules.command("check")
@click.argument("who")
@click.argument("operation")
@click.argument("event")
@operator_options
def rules_check(who: str, operation: str, event: str, **options: Any) -> None:
    """Say whether WHO (a user, or `public`) may do OPERATION (read, insert, remove, cancel, log) with EVENT, and which
    rule decides. Exits with 1 if not."""
    with operator(**options) as ask:
        answer = ask.json("POST", "/rules/check", {"who": who, "operation": operation, "event": event})
    if answer["disabled"]:
        because = "this user is disabled"
    elif answer["rule"]:
        because = f'the rule "{answer["rule"]}" (line {answer["line"]}) decides'
    elif answer["allowed"]:
        because = "there are no rules, or this is an administrator"
    else:
        because = "no rule covers it: nobody"
    may = {True: "may", "own": "may, if the record is the user's own,", False: "may not"}[answer["allowed"]]
    click.echo(f"{who} {may} {operation} {event}: {because}")
    if not answer["allowed"]:
        sys.exit(1)


@rules.command("show")
@operator_options
def rules_show(**options: Any) -> None:
    """Print the rules in force, as they were written."""
    with operator(**options) as ask:
        current = in_force(read_versions(ask))
    if current is None:
        raise ClientError("this log has no rules; everything is open. `broker rules init` writes a file to begin with")
    click.echo(current.text, nl=False)


@rules.command("diff")
@click.argument("file", default=Path("rules.toml"), type=PathOption())
@operator_options
def rules_diff(file: Path, **options: Any) -> None:
    """Show how a file (rules.toml) differs from the rules in force, and what would become wider."""
    text, parsed = read_rules_file(file)
    with operator(**options) as ask:
        current = in_force(read_versions(ask))
    old = "" if current is None else current.text
    lines = difflib.unified_diff(old.splitlines(keepends=True), text.splitlines(keepends=True), "in force", str(file))
    for line in lines:
        click.echo(line if line.endswith("\n") else f"{line}\n", nl=False)
    for widening in [] if current is None else widenings(current.rules, parsed.rules):
        click.echo(f"wider: {widening}", err=True)


@rules.command("history")
@operator_options
def rules_history(**options: Any) -> None:
    """List the versions of the rules: when, in which state, by whom, and the uuid."""
    with operator(**options) as ask:
        versions = sorted(read_versions(ask), key=lambda version: version.time)
    current = in_force(versions)
    for version in versions:
        if version.cancelled:
            state = "cancelled"
        elif version.scheduled:
            state = "scheduled"
        else:
            state = "in force" if version is current else "superseded"
        reason = f"  {version.reason}" if version.reason else ""
        who = version.user or "the operator"
        click.echo(f"{shown_time(version.time)}  {state:<10}  {who}  {version.uuid}{reason}")


@rules.command("confirm")
@data_option
@config_option
def rules_confirm(data: Path | None, config: Path | None) -> None:
    """Let a log that `broker restore` has brought back be served with its rules."""
    folder = settings_of(data, config).data
    if not unconfirmed(folder):
        raise ClientError(f"{folder}: there is nothing to confirm, because no log with rights was restored here")
    mark(folder, unconfirmed=False)
    click.echo(f"the rights of the restored log in {folder} are confirmed", err=True)
