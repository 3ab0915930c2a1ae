from __future__ import annotations

import pytest

from broker.cli.urls import parse_url


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("HTTPS://live.example/", "https://live.example"),
        ("http://live.example/live//", "http://live.example/live"),
        ("http://live.example/l\u00fc", "http://live.example/l%C3%BC"),
        ("http://live.example/a%20b", "http://live.example/a%20b"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://m\u00fcnchen.example:80", "http://xn--mnchen-3ya.example:80"),
        ("http://\u2177.example", "http://viii.example"),
        ("http://under_score", "http://under_score"),
    ],
)
def test_an_address_of_a_server_is_taken(given: str, taken: str) -> None:
    assert parse_url(given) == taken


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("127.0.0.1:8080", "has no scheme; write http://127.0.0.1:8080, or https://"),
        ("localhost:8080", "has no scheme; write http://localhost:8080, or https://"),
        ("//localhost", "has no scheme; write http://localhost, or https://"),
        ("http:/localhost", "has no scheme; write http://localhost, or https://"),
        ("ftp://localhost", "has the scheme ftp; Broker's are http and https"),
        ("ws://localhost", "has the scheme ws; Broker's are http and https"),
        ("http://a b", "a blank or a line break within"),
        ("http://a\nb", "a blank or a line break within"),
        ("http://", "no host name"),
        ("http://:8080", "no host name"),
        ("http://a..b", "no host name"),
        ("http://" + "a" * 70, "no host name"),
        ("http://a$b", "no host name"),
        ("http://[::1]x", "no host name"),
        ("http://[::1]]:80", "no host name"),
        ("http://a:x", "no port behind the colon"),
        ("http://a:", "no port behind the colon"),
        ("http://a:0", "no port behind the colon"),
        ("http://a:99999", "no port behind the colon"),
        ("http://[::1]:x", "no port behind the colon"),
        ("http://::1:8080", "stands in brackets"),
        ("http://[::1", "a bracket too much"),
        ("http://a?token=lovelace", "leave out what begins with ?"),
        ("http://a#lovelace", "leave out what begins with ? or #"),
        ("http://ada:lovelace@a", "leave out user name and password"),
        ("ada:lovelace@a:8080", "leave out user name and password"),
        ("http://ada:love/lovelace@a", "leave out user name and password"),
    ],
)
def test_what_is_no_address_is_refused_for_what_is_wrong_with_it(given: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as refused:
        parse_url(given)
    assert says in str(refused.value)
    assert "lovelace" not in str(refused.value)
