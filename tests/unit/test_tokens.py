from __future__ import annotations

import base64
import hmac
import json
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.accounts.tokens import Tokens
from broker.errors import SettingsError, Unauthorized
from broker.store.sqlite.secret import read_secret
from broker.users import Actor, User, UserState

NOW_S = 1_700_000_000
SECRET = "a secret of sixty-four bytes or more, so that HS512 would do with it"
ADA = User("id-1", "ada", b"null", "", UserState(gen=3))
CLAIMS: dict[str, Any] = {"sub": "id-1", "username": "ada", "gen": 3, "iat": NOW_S, "exp": NOW_S + 60, "jti": "1"}


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(SECRET, ttl_s=60, session_max_s=150)


def signed(secret: str = SECRET, algorithm: str = "HS256", without: str = "", **changes: object) -> str:
    claims = {name: value for name, value in (CLAIMS | changes).items() if name != without}
    return jwt.encode(claims, secret, algorithm=algorithm)


def unsigned(header: object, claims: object = CLAIMS, signature: str = "") -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join([*parts, signature])


def forged(header: object, key: bytes) -> str:
    """A token that is signed by hand, since PyJWT refuses to sign such ones."""
    signed_part = unsigned(header).rstrip(".")
    digest = hmac.new(key, signed_part.encode(), "sha256").digest()
    return f"{signed_part}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def test_a_token_says_who_and_until_when(tokens: Tokens) -> None:
    token, expires_s = tokens.make(ADA, NOW_S, NOW_S, "s")
    assert expires_s == NOW_S + 60
    assert tokens.verify(token, NOW_S) == (Actor("id-1", "ada", 3, "s"), NOW_S + 60, NOW_S, 0, "")
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"sub", "username", "gen", "iat", "exp", "auth_time", "jti", "sid"}


def test_no_two_tokens_are_equal(tokens: Tokens) -> None:
    assert tokens.make(ADA, NOW_S, NOW_S, "s") != tokens.make(ADA, NOW_S, NOW_S, "s")


@pytest.mark.parametrize(("after_s", "valid_s"), [(0, 60), (1, 60), (90, 60), (91, 59), (149, 1), (-10, 60)])
def test_a_renewed_token_keeps_the_time_of_the_login_and_never_outlives_the_session(
    tokens: Tokens, after_s: int, valid_s: int
) -> None:
    now_s = NOW_S + after_s
    token, expires_s = tokens.make(ADA, now_s, NOW_S, "s")
    assert expires_s == now_s + valid_s
    assert tokens.verify(token, now_s)[1:3] == (expires_s, NOW_S)


@pytest.mark.parametrize("after_s", [150, 151, 10_000_000])
def test_no_token_is_made_after_the_session(tokens: Tokens, after_s: int) -> None:
    with pytest.raises(Unauthorized, match=r"the login was 150 seconds ago or more \(session_max_s\); log in again"):
        tokens.make(ADA, NOW_S + after_s, NOW_S, "s")


def test_a_token_of_an_older_version_was_made_by_the_login(tokens: Tokens) -> None:
    assert tokens.verify(signed(), NOW_S).login_s == NOW_S
    assert tokens.verify(signed(auth_time=NOW_S - 100), NOW_S).login_s == NOW_S - 100


def test_a_token_ends_at_its_time_also_when_it_was_seen_before(tokens: Tokens) -> None:
    token, _ = tokens.make(ADA, NOW_S, NOW_S, "s")
    tokens.verify(token, NOW_S + 59.9)
    for now_s in (NOW_S + 60, NOW_S + 61):
        with pytest.raises(Unauthorized, match="the token has expired"):
            tokens.verify(token, now_s)


BAD_TOKENS = {
    "none": "",
    "no parts": "x",
    "empty parts": "..",
    "not base64": "!.!.!",
    "not ASCII": "é.é.é",
    "NUL": "\x00",
    "very long": signed(username="x" * 5_000),
    "nested header": base64.urlsafe_b64encode(b"[" * 2_900).decode() + ".e30.e30",
    "nested claims": jwt.api_jws.encode(b"[" * 2_000, SECRET),
    "claims no object": jwt.api_jws.encode(b"1", SECRET),
    "other secret": signed(secret="b" * 40),
    "signature cut off": signed()[:-4],
    "signature of others": signed()[:-43] + signed(gen=4)[-43:],
    "alg none": unsigned({"alg": "none", "typ": "JWT"}),
    "alg None": unsigned({"alg": "None"}),
    "no alg": unsigned({"typ": "JWT"}, signature="e30"),
    "HS384": signed(algorithm="HS384"),
    "HS512": signed(algorithm="HS512"),
    "crit": jwt.encode(CLAIMS, SECRET, headers={"crit": ["exp"]}),
    **{f"without {claim}": signed(without=claim) for claim in CLAIMS},
    "exp is text": signed(exp="soon"),
    "gen is an object": signed(gen={}),
    "exp is endless": jwt.api_jws.encode(json.dumps(CLAIMS | {"exp": float("inf")}).encode(), SECRET),
    "sub is a number": signed(sub=1),
    "iat is text": signed(iat="now"),
    "auth_time is null": signed(auth_time=None),
    "not yet valid": signed(nbf=NOW_S + 1),
    "kid of a file": jwt.encode(CLAIMS, "\0" * 32, headers={"kid": "/dev/null"}),
    "kid of another secret": jwt.encode(CLAIMS, "b" * 40, headers={"kid": "b' UNION SELECT 'bbb"}),
    "a public key as the secret": forged({"alg": "HS256"}, b"ssh-ed25519 AAAA" + b"B" * 40),
    "auth_time is endless": jwt.api_jws.encode(json.dumps(CLAIMS | {"auth_time": float("inf")}).encode(), SECRET),
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_bad_token_is_refused_and_not_told_why(tokens: Tokens, token: str) -> None:
    for _ in range(2):  # a refusal is not remembered as an approval
        with pytest.raises(Unauthorized, match="the token is not valid; log in again"):
            tokens.verify(token, NOW_S)


def test_what_is_remembered_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.accounts.tokens._VERIFIED_MAX", 3)
    tokens = Tokens(SECRET, ttl_s=60, session_max_s=150)
    made = [tokens.make(ADA, NOW_S, NOW_S, "s")[0] for _ in range(10)]
    for token in made:
        tokens.verify(token, NOW_S)
    assert tokens._verified.cache_info().currsize == 3
    for token in made[-3:]:
        tokens.verify(token, NOW_S)
    assert tokens._verified.cache_info().hits == 3
    assert tokens.verify(made[0], NOW_S).actor.username == "ada"


def test_a_secret_is_made_once_private_and_long(tmp_path: Path) -> None:
    file = tmp_path / "data" / "token-secret"
    secret = read_secret(file)
    assert len(secret) >= 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_secret(file) == secret
    assert read_secret(tmp_path / "other") != secret
    assert list(file.parent.iterdir()) == [file]


def test_those_that_start_together_have_one_secret(tmp_path: Path) -> None:
    file = tmp_path / "token-secret"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(read_secret(file))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("content", "sentence"), [(b"short\n", "shorter than 32 bytes"), (b"\xff" * 40, "cannot use")])
def test_a_secret_that_cannot_be_used_is_refused_and_not_shown(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "token-secret"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=sentence) as refusal:
        read_secret(file)
    assert "short\n" not in refusal.value.detail
    assert str(file) in refusal.value.detail
