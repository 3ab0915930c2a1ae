"""Whether a request is too large or too slow, without a socket."""

from __future__ import annotations

from broker.server.receiving import Part, Receiving
from broker.settings import Settings

SETTINGS = Settings(head_timeout_s=10.0, head_bytes_max=1_000, body_rate_min=100)


def test_a_client_that_sends_nothing_is_too_slow_and_silent() -> None:
    receiving = Receiving(SETTINGS, 0.0)
    assert receiving.too_slow(10.0) is None
    assert receiving.too_slow(10.1) is not None
    assert receiving.silent


def test_headers_have_their_time_from_their_first_byte_on() -> None:
    receiving = Receiving(SETTINGS, 0.0)
    receiving.complete()
    assert receiving.too_slow(1_000.0) is None, "between two requests nothing is awaited"
    receiving.received(1, 1_000.0)
    assert receiving.part is Part.HEADERS
    assert receiving.too_slow(1_010.0) is None
    problem = receiving.too_slow(1_010.1)
    assert problem is not None
    assert problem.status == 408
    assert not receiving.silent


def test_a_body_may_take_long_if_it_comes_at_the_least_rate() -> None:
    receiving = Receiving(SETTINGS, 0.0)
    receiving.begin(Part.BODY, 0.0)
    receiving.received(1_100, 5.0)
    assert receiving.too_slow(11.0) is None, "100 bytes a second; its clock starts again"
    assert receiving.too_slow(21.0) is None
    problem = receiving.too_slow(21.1)
    assert problem is not None
    assert "body_rate_min" in problem.detail


def test_a_client_is_not_slow_while_nobody_reads() -> None:
    receiving = Receiving(SETTINGS, 0.0)
    receiving.restart_clock(100.0)
    assert receiving.too_slow(110.0) is None
    assert receiving.too_slow(110.1) is not None


def test_what_the_parser_keeps_is_limited_and_a_body_is_not() -> None:
    receiving = Receiving(SETTINGS, 0.0)
    receiving.received(1_000, 0.0)
    assert receiving.too_large() is None
    receiving.received(1, 0.0)
    problem = receiving.too_large()
    assert problem is not None
    assert problem.status == 431
    receiving.begin(Part.BODY, 0.0)
    for _ in range(100):
        receiving.received(1_000, 0.0)
        receiving.parsed()
        assert receiving.too_large() is None
