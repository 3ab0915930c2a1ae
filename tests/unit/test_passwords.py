from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator

import pytest

from broker.accounts.passwords import Passwords
from broker.errors import TooManyRequests

pytestmark = pytest.mark.anyio


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(hashes_max=2)
    yield passwords
    passwords.stop()


async def test_only_the_right_password_is_right(passwords: Passwords) -> None:
    known = await passwords.hash("correct horse é🦀")
    assert await passwords.check("correct horse é🦀", known)
    assert not await passwords.check("correct horse é", known)
    assert not await passwords.check("", known)
    assert not await passwords.check("correct horse é🦀", None)


async def test_a_hash_is_argon2id_with_owasps_parameters_and_a_salt(passwords: Passwords) -> None:
    first, second = [await passwords.hash("correct horse") for _ in range(2)]
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second


async def test_an_unknown_user_takes_as_long_as_a_known_one(passwords: Passwords) -> None:
    async def seconds(password_hash: str | None) -> float:
        begun = time.perf_counter()
        await passwords.check("wrong horse", password_hash)
        return time.perf_counter() - begun

    known = await passwords.hash("correct horse")
    pairs = [(await seconds(known), await seconds(None)) for _ in range(9)]
    ratio = statistics.median(unknown / right for right, unknown in pairs)
    assert 0.5 < ratio < 2  # without the hash it would be some 0.01


async def test_beyond_the_bound_it_asks_to_come_again_and_then_lets_in(passwords: Passwords) -> None:
    results = await asyncio.gather(*(passwords.hash(f"horse {n}") for n in range(5)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, TooManyRequests)]
    assert [type(result) for result in results[:2]] == [str, str]
    assert [each.retry_after_s for each in refused] == [2, 2, 2]
    await passwords.hash("afterwards")


async def test_a_caller_that_goes_away_counts_until_its_hash_is_done(passwords: Passwords) -> None:
    hashes = [asyncio.create_task(passwords.hash("horse")) for _ in range(2)]
    await asyncio.sleep(0)
    for task in hashes:
        task.cancel()
    await asyncio.gather(*hashes, return_exceptions=True)
    with pytest.raises(TooManyRequests):
        await passwords.hash("horse")
    deadline = time.monotonic() + 10
    while True:
        try:
            await passwords.hash("horse")
            return
        except TooManyRequests:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
