from __future__ import annotations

import unicodedata

import pytest

from broker.errors import BadRequest
from broker.users import (
    User,
    UserState,
    check_new_username,
    check_password,
    check_username,
    encode_user,
    normal_password,
    username_key,
)


@pytest.mark.parametrize("name", ["a", "ada@example.org", "A.b_c-9", "ada+x@example.com", "+", "x" * 64])
def test_a_good_user_name_is_returned_as_it_is(name: str) -> None:
    assert check_username(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "é", "a/b", "a\n", "a\x00", "<b>", "\uff21", "a\u200b"])
def test_a_bad_user_name_is_refused_and_told_why(name: str) -> None:
    with pytest.raises(BadRequest, match="username: expected 1 to 64 of A-Z"):
        check_username(name)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_dot_or_two_are_no_new_user_name_but_may_be_an_old_one(name: str) -> None:
    assert check_username(name) == name
    with pytest.raises(BadRequest, match="username: it must not be"):
        check_new_username(name)


@pytest.mark.parametrize("name", ["...", ".a", "a.", "..-"])
def test_dots_among_others_are_a_new_user_name(name: str) -> None:
    assert check_new_username(name) == name


def test_names_that_differ_by_case_only_are_the_same() -> None:
    assert username_key("Ada") == username_key("aDA") != username_key("ada2")


@pytest.mark.parametrize("password", ["x" * 8, "é" * 512, "x" * 1024, "🦀" * 8, " " * 8])
def test_a_good_password_is_returned_as_it_is(password: str) -> None:
    assert check_password(password) == password


@pytest.mark.parametrize(
    ("password", "sentence"),
    [("", "8 characters"), ("é" * 7, "8 characters"), ("x" * 1025, "1024 bytes"), ("é" * 513, "1024 bytes")],
)
def test_a_bad_password_is_refused_and_not_repeated(password: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        check_password(password)
    assert not password or password not in refusal.value.detail


@pytest.mark.parametrize(("one", "other"), [("p\u00e4sswort", "pa\u0308sswort"), ("\uac00" * 8, "\u1100\u1161" * 8)])
def test_a_password_is_the_same_in_whatever_unicode_form_it_was_typed(one: str, other: str) -> None:
    assert one != other
    assert normal_password(one) == normal_password(other) == one


def test_the_size_of_a_password_is_that_of_the_text_as_it_was_sent() -> None:
    """Whatever its normal form is: a sign-up and a login must agree, and nobody may have a long text normalised."""
    shrinks, grows = unicodedata.normalize("NFD", "\u1ed9" * 200), "\u0344" * 400
    assert (len(shrinks.encode()), len(normal_password(shrinks).encode())) == (1_000, 600)
    assert len(grows.encode()) < 1_024 < len(normal_password(grows).encode())
    assert check_password(shrinks) == normal_password(shrinks)
    assert check_password(grows) == normal_password(grows)
    with pytest.raises(BadRequest, match="1024 bytes"):
        check_password(unicodedata.normalize("NFD", "\u1ed9" * 300))


def test_a_users_json_shows_no_hash_and_keeps_info_as_sent() -> None:
    user = User("id-1", "ada", b'{"b":1e400,"a":"\\ud800"}', "$argon2id$hash", UserState(3), "a code")
    shown = b'{"id":"id-1","username":"ada","info":{"b":1e400,"a":"\\ud800"},"roles":["r","s"]}'
    assert encode_user(user, {"s", "r"}) == shown
    assert "argon2" not in repr(user)
    assert "a code" not in repr(user)
