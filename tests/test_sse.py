from __future__ import annotations

import re

import pytest

from broker import sse


def _read(block: bytes) -> dict[str, str]:
    """The fields of one block, as WHATWG HTML section 9.2.6 reads them."""
    assert block.endswith(b"\n\n")
    assert block.count(b"\n\n") == 1
    fields: dict[str, str] = {}
    for line in re.split("\r\n|\r|\n", block.decode())[:-2]:
        name, _, value = line.partition(":")
        assert name not in fields
        fields[name] = value.removeprefix(" ")
    return fields


@pytest.mark.parametrize("data", ['{"a":1}', '" leading"', '"a\\nb"', '"\u2028"', "1", '""'])
def test_a_frame_carries_its_data_exactly(data: str) -> None:
    block = sse.frame(b"9f3a1c07-41", "orders/é: 42", data.encode())
    assert _read(block) == {"id": "9f3a1c07-41", "event": "orders/é: 42", "data": data}


def test_a_frame_is_the_bytes_of_the_contract() -> None:
    assert sse.frame(b"e-1", "user", b"{}") == b"id: e-1\nevent: user\ndata: {}\n\n"


def test_ready_carries_the_id_and_moves_it() -> None:
    assert sse.ready(b"e-57") == b'id: e-57\nevent: $ready\ndata: {"id":"e-57"}\n\n'


def test_skipped_and_reset_leave_the_last_id_alone() -> None:
    assert sse.skipped(12) == b'event: $skipped\ndata: {"positions":12}\n\n'
    assert sse.reset() == b'event: $reset\ndata: {"reason":"unknown-id"}\n\n'


@pytest.mark.parametrize("block", [sse.HEARTBEAT, sse.retry(2000), sse.heartbeat(b"e-9")])
def test_heartbeats_and_retry_dispatch_nothing(block: bytes) -> None:
    assert "data" not in _read(block)


def test_a_filtered_heartbeat_moves_the_last_id() -> None:
    assert sse.heartbeat(b"e-9") == b":\nid: e-9\n\n"


def test_a_chunk_says_its_size_in_hexadecimal() -> None:
    assert sse.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert sse.LAST_CHUNK == b"0\r\n\r\n"
