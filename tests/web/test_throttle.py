"""Login and sign-up under attack."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from broker import Settings
from broker.accounts.throttle import Throttle
from broker.errors import SettingsError, TooManyRequests
from tests.support.servers import ServerProcess

RIGHT = "correct horse"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path,
        "--open",
        signups_per_address="4/hour",
        login_attempts_per_user="3/minute",
        login_attempts_per_name="5/hour",
        login_attempts_per_address="9/hour",
    ) as server:
        yield server


def attempt(server: ServerProcess, path: str, username: str, password: str, address: str = "") -> httpx.Response:
    headers = {"X-Forwarded-For": address} if address else {}
    body = {"username": username, "password": password}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=20)


def test_a_guesser_is_told_to_wait_and_the_right_password_does_not_help_then(server: ServerProcess) -> None:
    assert attempt(server, "/users", "ada", RIGHT).status_code == 201
    assert [attempt(server, "/login", "ada", "wrong horse").status_code for _ in range(4)] == [401, 401, 401, 429]
    answer = attempt(server, "/login", "ADA", RIGHT)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_an_unknown_name_is_treated_the_same(server: ServerProcess) -> None:
    assert [attempt(server, "/login", "nobody", "wrong horse").status_code for _ in range(4)] == [401, 401, 401, 429]


def test_many_at_once_are_no_way_around(server: ServerProcess) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: attempt(server, "/login", "ada", f"wrong horse {n}").status_code, range(12)))
    assert (answers.count(401), answers.count(429)) == (3, 9)


def test_a_right_login_makes_forget_what_was_wrong_before(server: ServerProcess) -> None:
    attempt(server, "/users", "ada", RIGHT)
    for _ in range(3):
        assert attempt(server, "/login", "ada", "wrong horse").status_code == 401
        assert attempt(server, "/login", "ada", RIGHT).status_code == 200


def test_a_guesser_elsewhere_does_not_lock_the_user_out_at_once(server: ServerProcess) -> None:
    attempt(server, "/users", "ada", RIGHT)
    assert [attempt(server, "/login", "ada", "wrong", "203.0.113.7").status_code for _ in range(4)][-1] == 429
    assert attempt(server, "/login", "ada", RIGHT, "203.0.113.8").status_code == 200


def test_a_guesser_with_many_addresses_is_told_to_wait(server: ServerProcess) -> None:
    answers = [attempt(server, "/login", "ada", "wrong", f"203.0.113.{n}") for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 60


def test_an_address_that_tries_many_names_is_told_to_wait(server: ServerProcess) -> None:
    answers = [attempt(server, "/login", f"user{n}", "wrong", "203.0.113.7").status_code for n in range(10)]
    assert answers == [401] * 9 + [429]
    assert attempt(server, "/login", "user11", "wrong", "203.0.113.8").status_code == 401


def test_guessers_elsewhere_do_not_keep_out_who_has_just_signed_up(server: ServerProcess) -> None:
    assert attempt(server, "/users", "ada", RIGHT, "203.0.113.99").status_code == 201
    answers = [attempt(server, "/login", "ada", "wrong", f"203.0.113.{n}").status_code for n in range(6)]
    assert answers == [401] * 5 + [429]
    assert attempt(server, "/login", "ada", RIGHT, "203.0.113.98").status_code == 429
    assert attempt(server, "/login", "ada", RIGHT, "203.0.113.99").status_code == 200


def test_an_address_may_sign_up_only_so_often(server: ServerProcess) -> None:
    answers = [attempt(server, "/users", f"user{n}", RIGHT, "203.0.113.7") for n in range(5)]
    assert [answer.status_code for answer in answers] == [201] * 4 + [429]
    assert int(answers[-1].headers["retry-after"]) > 60
    assert attempt(server, "/users", "another", RIGHT, "203.0.113.8").status_code == 201


def test_the_delays_grow() -> None:
    throttle = Throttle(Settings(login_attempts_per_user="2/minute; 3/hour", login_attempts_per_name="1000/hour"))
    for _ in range(2):
        throttle.log_in("ada", "203.0.113.7")
    waits = []
    for _ in range(2):
        with pytest.raises(TooManyRequests) as refusal:
            throttle.log_in("ada", "203.0.113.7")
        waits.append(refusal.value.retry_after_s or 0)
    assert 0 < waits[0] <= 60 < waits[1] <= 3_600


@pytest.mark.parametrize("rates", ["", "often", "5/fortnight"])
def test_rates_that_are_none_are_refused_by_name(rates: str) -> None:
    with pytest.raises(SettingsError, match="signups_per_address"):
        Throttle(Settings(signups_per_address=rates))


def test_who_logged_in_before_is_not_kept_out_by_guesses_from_elsewhere() -> None:
    throttle = Throttle(Settings(login_attempts_per_name="10/hour"))
    throttle.log_in("ada", "192.0.2.1")
    throttle.logged_in("ada", "192.0.2.1")
    for n in range(10):
        throttle.log_in("ada", f"198.51.100.{n}")
    with pytest.raises(TooManyRequests):
        throttle.log_in("ada", "198.51.100.99")
    throttle.log_in("ada", "192.0.2.1")


def test_an_ipv6_network_is_one_visitor_and_a_mapped_address_is_ipv4() -> None:
    throttle = Throttle(Settings(login_attempts_per_address="2/hour", trusted_proxies=("127.0.0.1",)))
    for _ in range(3):
        throttle.log_in("a", "::ffff:127.0.0.1")
    throttle.log_in("b", "2001:db8::1")
    throttle.log_in("c", "2001:db8::2")
    with pytest.raises(TooManyRequests):
        throttle.log_in("d", "2001:db8::ffff:3")
    throttle.log_in("d", "2001:db8:0:1::1")


def test_what_is_kept_of_an_attempt_is_small_and_bounded() -> None:
    throttle = Throttle(Settings(login_attempts_per_address="1000000/hour"))
    throttle.log_in("x" * 1_000_000, "192.0.2.1")
    assert max(len(key) for key in throttle._storage.storage) < 200
    for n in range(60_000):
        throttle.log_in(f"name{n}", "192.0.2.1")
    assert len(throttle._storage.storage) <= 100_010
