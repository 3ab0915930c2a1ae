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
    data = b'{"id":"e-57","time":1700000000.125,"heartbeat":15}'
    assert sse.ready(b"e-57", 1_700_000_000_125_000, 15.0) == b"id: e-57\nevent: $ready\ndata: " + data + b"\n\n"


def test_skipped_and_reset_leave_the_last_id_alone() -> None:
    assert sse.skipped(12) == b'event: $skipped\ndata: {"positions":12}\n\n'
    assert sse.reset() == b'event: $reset\ndata: {"reason":"unknown-id"}\n\n'


@pytest.mark.parametrize("line", [sse.HEARTBEAT, sse.retry(2000)])
def test_where_there_is_no_event_there_is_no_empty_line(line: bytes) -> None:
    """Several libraries deliver an event at each empty line."""
    assert line.endswith(b"\n")
    assert b"\n\n" not in line + sse.frame(b"e-1", "user", b"{}")[:-1]
    assert _read(line + sse.frame(b"e-1", "user", b"{}"))["event"] == "user"


def test_a_position_that_moved_moves_the_last_id_and_dispatches_nothing() -> None:
    assert sse.moved_on(b"e-9") == b"id: e-9\n\n"


def test_a_heartbeat_that_a_page_can_receive_has_the_servers_time() -> None:
    beat = b'event: $heartbeat\ndata: {"time":1700000000.5}\n\n'
    assert sse.heartbeat(1_700_000_000_500_000) == beat
    assert sse.heartbeat(1_700_000_000_500_000, b"e-9") == b"id: e-9\n" + beat


def test_a_chunk_says_its_size_in_hexadecimal() -> None:
    assert sse.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert sse.chunk(b"") == b""  # a chunk of nothing would be the last
