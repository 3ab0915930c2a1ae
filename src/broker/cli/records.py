"""The commands that insert, read, cancel and remove records on a running server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import click

from broker.cli.batches import Item, Refused, Sender, batches_of, with_uuid
from broker.cli.client import Client, ClientError, Unsure, check_id, query_of
from broker.cli.connection import client, client_options, named
from broker.cli.options import PathOption, WithNumbers
from broker.cli.values import amount, check_json, new_uuid, print_json, read_moment, without_mark

_SHOWN = 20  # names of events that `broker remove` shows


@click.command("insert", cls=WithNumbers)
@click.argument("event", required=False)
@click.argument("data", required=False)
@click.option("--at", help="When it is published: epoch seconds, 2030-01-01T12:00:00Z, or +10m.  [default: now]")
@click.option("--until", help="When this version ends, in the same form.  [default: never]")
@click.option("--if-latest", help="Only if this is the latest version: its id or uuid, or none.")
@click.option("--late", type=click.Choice(["publish", "refuse"]), help="If its time has passed.  [default: publish]")
@click.option("--remove", is_flag=True, help="Remove the event: insert null, in place of DATA.")
@click.option("--log-only", is_flag=True, help="Keep it in the log; never publish it.")
@click.option("--uuid", help="A uuid of your own, so that an insert that was cut off can be sent again.")
@click.option("--file", type=PathOption(), help="Insert the records of FILE, one a line; - is stdin.")
@client_options
def insert(
    event: str | None, data: str | None, at: str | None, until: str | None, if_latest: str | None, late: str | None,
    remove: bool, log_only: bool, uuid: str | None, file: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Insert a record, and print it. DATA is JSON, or - for standard input."""
    if file is not None:
        if any((event, data, at, until, if_latest, late, remove, log_only, uuid)):
            raise click.UsageError("--file: each line has all fields of a record; leave out the others")
        _insert_file(client(**options), file)
        return
    if event is None:
        raise click.UsageError("Missing argument 'EVENT' (or give --file).")
    if remove and data is not None:
        raise click.UsageError("--remove inserts null; leave DATA out")
    if data is None or data == "-":
        data = "null" if remove else sys.stdin.buffer.read().decode()
    text = without_mark(data)
    check_json(text, "DATA")
    # The body is put together by hand, so that DATA is sent exactly as it was given, with its text of numbers.
    fields = {"event": json.dumps(event), "data": text, "uuid": json.dumps(uuid or new_uuid())}
    for name, sent, option in (("timestamp", at, "--at"), ("until", until, "--until")):
        if sent is not None:
            fields[name] = read_moment(sent, option)
    for name, value in (("if_latest", if_latest), ("late", late), ("published", log_only or None)):
        if value is not None:
            fields[name] = json.dumps(value)
    body = "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"
    try:
        print_json(client(**options).post("/insert", body.encode()))
    except Unsure as error:
        raise ClientError(f"{error}; it may be stored: send it again with --uuid {fields['uuid'][1:-1]}") from None


def _insert_file(to: Client, file: Path) -> None:
    """Sends the lines in batches. What was carried out before an error is not undone, so the message says where that
    ends."""
    done = 0
    with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as lines:
        size = None if str(file) == "-" else os.fstat(lines.fileno()).st_size
        batches = batches_of(_items(lines, "standard input" if size is None else str(file)))
        # Without a length, the bar only counts the bytes.
        with click.progressbar(
            None if size else iter(()), length=size, label="insert", file=sys.stderr, hidden=not sys.stderr.isatty(),
            show_pos=not size,
        ) as bar:  # fmt: skip
            try:
                for batch, _ in Sender(to, minimal=True).send(batches):
                    done += len(batch)
                    bar.update(sum(len(item.json) + 1 for item in batch))
            except Refused as error:
                first, last = error.batch[0].name, error.batch[-1].name
                state = f"{first} to {last} perhaps were, too" if error.unsure else f"{first} and the rest were not"
                raise ClientError(f"{error}; carried out before: {amount(done, 'line')}; {state}") from None
    click.echo(f"carried out {amount(done, 'line')}", err=True)


def _items(lines: BinaryIO, source: str) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip(b" \t\r\n")
        if text:
            yield Item(f"{source}, line {number}", with_uuid(text))


@click.command("listen")
@click.argument("events", nargs=-1)
@click.option("--last-event-id", default="", help="Resume after this id.")
@click.option("--count", type=int, help="Stop after this many records.")
@click.option("--records", is_flag=True, help="Print whole records: also who inserted them, and when.")
@client_options
def listen(events: tuple[str, ...], last_event_id: str, count: int | None, records: bool, **options: Any) -> None:
    """Print the stream, one JSON object a line, and resume it after interruptions. EVENTS are names, or prefixes such
    as 'orders/*'."""
    with named("--last-event-id"):
        check_id(last_event_id)
    source = client(**options, needs_token=False)
    report = lambda text: click.echo(text, err=True)  # noqa: E731 (an argument)
    for message in source.listen(events, last_event_id, report, records=records):
        event_id, event = json.dumps(message.id), json.dumps(message.event, ensure_ascii=False)
        own = message.event.startswith("$")
        line = f'{{"id":{event_id},"event":{event},"data":{message.data}}}'
        print_json(message.data if records and not own else line)
        if count is not None and not own:
            count -= 1
            if count <= 0:
                return


@click.command("log")
@click.argument("event")
@click.option("--limit", type=click.IntRange(1, 1000), help="Print at most this many records.")
@click.option("--newest-first", is_flag=True, help="Print the newest records first, in place of the oldest.")
@client_options
def log(event: str, limit: int | None, newest_first: bool, **options: Any) -> None:
    """Print the log of an event, one record a line."""
    query = query_of((), limit=limit, order="desc" if newest_first else "asc")
    for line in client(**options).lines(f"/collections/{quote(event)}{query}"):
        print_json(line)


@click.command("snapshot")
@click.argument("events", nargs=-1)
@click.option("--limit", type=click.IntRange(1, 1000), help="Print at most this many records.")
@click.option("--newest-first", is_flag=True, help="Print the newest records first, in place of the order by name.")
@click.option("--search", help="Only events whose names contain this text.")
@click.option("--at", help="The state at this time: epoch seconds, 2030-01-01T12:00:00Z, or -10m.  [default: now]")
@client_options
def snapshot(
    events: tuple[str, ...], limit: int | None, newest_first: bool, search: str | None, at: str | None, **options: Any
) -> None:
    """Print the latest record of every event, one a line. EVENTS are names, or prefixes such as 'orders/*'."""
    order, moment = "newest" if newest_first else None, None if at is None else read_moment(at, "--at")
    query = query_of(events, limit=limit, order=order, search=search, at=moment)
    for line in client(**options, needs_token=False).lines(f"/snapshot{query}"):
        print_json(line)


@click.command("pending")
@click.argument("events", nargs=-1)
@click.option("--limit", type=click.IntRange(1, 1000), help="Print at most this many records.")
@client_options
def pending(events: tuple[str, ...], limit: int | None, **options: Any) -> None:
    """Print what is pending, by due time, one record a line. EVENTS are names, or prefixes such as 'orders/*'."""
    for line in client(**options).lines(f"/pending{query_of(events, limit=limit)}"):
        print_json(line)


@click.command("cancel")
@click.argument("uuid")
@client_options
def cancel(uuid: str, **options: Any) -> None:
    """Cancel a pending record, and print it."""
    print_json(client(**options).post(f"/cancel/{quote(uuid, safe='')}"))


@click.command("remove")
@click.argument("events", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options
def remove(events: tuple[str, ...], yes: bool, **options: Any) -> None:
    """Remove events, and print the records that remove them. EVENTS are names, or prefixes such as 'orders/*'."""
    server = client(**options)
    found = [json.loads(line) for line in server.lines(f"/snapshot{query_of(events, data='no')}")]
    if missing := sorted({name for name in events if "*" not in name} - {each["event"] for each in found}):
        raise ClientError(f"{', '.join(missing)}: there is no such event; nothing was removed")
    if not found:
        click.echo("there is no such event", err=True)
        return
    if not yes:
        _show([each["event"] for each in found])
        click.confirm(f"remove {amount(len(found), 'event')}?", err=True, abort=True)
    sender = Sender(server, leave_out=True)
    for _, answer in sender.send(batches_of(_removal(each) for each in found)):
        for record in json.loads(answer):
            print_json(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
    if sender.left_out:
        raise ClientError(f"{sender.left_out} of {len(found)} events have changed meanwhile, and were not removed")


def _show(names: list[str]) -> None:
    click.echo("\n".join(names[:_SHOWN]), err=True)
    if len(names) > _SHOWN:
        click.echo(f"and {len(names) - _SHOWN} more", err=True)


def _removal(latest: dict[str, Any]) -> Item:
    """With the condition that what is removed is still the latest, so that nobody loses what he has inserted since."""
    body = {"event": latest["event"], "data": None, "if_latest": latest["id"], "uuid": new_uuid()}
    return Item(latest["event"], json.dumps(body).encode())
