"""Sends many items of ``POST /insert`` in batches, each of which may safely be sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from broker.cli.client import Client, ClientError, Unreachable, Unsure
from broker.cli.values import new_uuid

# The server's defaults are 1,000 records and 1 MiB. If its limits are lower, a batch is divided when it is refused.
_RECORDS_MAX = 1_000
_BYTES_MAX = 500_000
_TRIES = 6
_RETRY_S = 0.5  # before the second attempt, and twice as long before each further one
_HEADERS = {"Content-Type": "application/x-ndjson"}


class Item(NamedTuple):
    """One line, and what a message calls it."""

    name: str
    json: bytes


def batches_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Divides the items into batches that the server accepts by default."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == _RECORDS_MAX or size + len(item.json) > _BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.json)
    if batch:
        yield batch


def with_uuid(line: bytes) -> bytes:
    """Adds a uuid to a record that has none, so that it is stored once if it is sent twice. Everything else stays as it
    is; what is not a record is for the server to refuse."""
    try:
        record = json.loads(line, parse_int=str, parse_float=str)  # as text, because int() refuses very long numbers
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict) or not record or record.get("uuid") is not None or "cancel" in record:
        return line
    # It is the last member, because the last of two equal names counts, and ``"uuid":null`` may be there.
    head, _, rest = line.rpartition(b"}")
    return b'%b,"uuid":"%b"}%b' % (head, new_uuid().encode(), rest)


class Sender:
    """Inserts batches. If the server is unreachable or too busy, it sends a batch again a few times.

    Mutable state: how many items were left out (``left_out``)."""

    def __init__(self, client: Client, *, minimal: bool = False, leave_out: bool = False) -> None:
        """``minimal``: whether the responses are short. ``leave_out``: whether an item whose condition ``if_latest`` is
        not met is left out, in place of refusing its whole batch."""
        self._client = client
        self._headers = _HEADERS | ({"Prefer": "return=minimal"} if minimal else {})
        self._leave_out = leave_out
        self.left_out = 0

    def send(self, batches: Iterable[list[Item]]) -> Iterator[tuple[list[Item], str]]:
        """Yields each batch that was stored, and the response, which is an array. A batch that is larger than the
        server accepts is divided. Raises Refused."""
        for batch in batches:
            left = [batch]
            while left:
                items = left.pop()
                try:
                    yield items, self._attempt(items)
                except Refused as error:
                    if error.status == 413 and len(items) > 1:
                        left += [items[len(items) // 2 :], items[: len(items) // 2]]
                    elif error.status == 412 and self._leave_out and error.index is not None:
                        self.left_out += 1
                        left += [rest] if (rest := items[: error.index] + items[error.index + 1 :]) else []
                    else:
                        raise

    def _attempt(self, items: list[Item]) -> str:
        body = b"\n".join(item.json for item in items)
        unsure = False
        for attempt in range(_TRIES):
            try:
                return self._client.post("/insert", body, self._headers)
            except ClientError as error:
                unsure = unsure or isinstance(error, Unsure)
                again = isinstance(error, Unreachable) or error.status == 429
                if not again or attempt == _TRIES - 1:
                    raise Refused(error, items, unsure=unsure) from None
            time.sleep(_RETRY_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


class Refused(ClientError):
    """A batch was refused. The message names the item at fault. ``unsure``: whether the batch may be stored."""

    def __init__(self, error: ClientError, batch: list[Item], *, unsure: bool) -> None:
        sentence = str(error)
        if error.index is not None and error.index < len(batch):
            sentence = f"{batch[error.index].name}: {sentence.removeprefix(f'record {error.index}: ')}"
        super().__init__(sentence, error.status, error.index)
        self.batch = batch
        self.unsure = unsure
