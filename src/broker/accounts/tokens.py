"""JSON Web Tokens (RFC 7519), signed with HS256."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Literal, NamedTuple

import jwt
from jwt.types import Options

from broker.errors import Unauthorized
from broker.users import Actor, User

_VERIFIED_MAX = 10_000  # tokens whose signature was verified and is remembered; verifying takes some 20 µs
_TOKEN_CHARACTERS_MAX = 4_096  # Broker's own tokens have some 300

# What a token is for: "" stands for the token of a login, which counts in a header. The value of a cookie and a ticket
# are tokens, too, but they count nowhere else.
Use = Literal["", "cookie", "ticket"]

# Times are checked by ``verify``, which uses the server's clock. ``auth_time`` and
# ``sid`` are missing in older tokens.
_OPTIONS: Options = {
    "require": ["sub", "username", "gen", "iat", "exp", "jti"],
    "verify_exp": False, "verify_iat": False, "verify_nbf": False,
}  # fmt: skip


class Claims(NamedTuple):
    """The claims of a token whose signature is valid. Times are in seconds since the epoch."""

    actor: Actor
    expires_s: int
    login_s: int  # when the user logged in; a renewal does not change it
    not_before_s: int
    use: str = ""  # a Use


class Tokens:
    """Makes tokens, and verifies their signature and expiry. Whether the user still exists and is enabled is checked by
    ``Accounts``.

    Mutable state: the claims of tokens whose signature was verified, of those that were used last."""

    def __init__(self, secret: str, ttl_s: int, session_max_s: int) -> None:
        self._secret = secret
        self._ttl_s = ttl_s
        self._session_max_s = session_max_s
        self._verified = lru_cache(_VERIFIED_MAX)(self._decode)  # it does not remember what raises an error

    def make(self, user: User, now_s: int, login_s: int, session: str) -> tuple[str, int]:
        """Returns a token of the session with this id, which began with a login at ``login_s``, and when it expires.
        All times are in seconds since the epoch.

        Raises Unauthorized if the session is over."""
        expires = min(now_s + self._ttl_s, login_s + self._session_max_s)
        if expires <= now_s:
            raise Unauthorized(
                f"the session is over: the login was {self._session_max_s} seconds ago or more (session_max_s); "
                "log in again"
            )
        actor = Actor(user.id, user.username, user.state.gen, session)
        return self._sign(actor, now_s, expires, login_s), expires

    def derive(self, claims: Claims, use: Use, now_s: int, expires_s: int) -> str:
        """Returns a token of the same session for another use. Times are in seconds since the epoch."""
        return self._sign(claims.actor, now_s, expires_s, claims.login_s, use=use)

    def _sign(self, actor: Actor, now_s: int, expires_s: int, login_s: int, **more: str) -> str:
        claims = {
            "sub": actor.user_id,
            "username": actor.username,
            "gen": actor.gen,
            "iat": now_s,
            "exp": expires_s,
            "auth_time": login_s,  # named as in OpenID Connect Core 1.0, section 2
            "jti": secrets.token_hex(8),
            "sid": actor.session,  # named as in OpenID Connect Front-Channel Logout 1.0
            **more,
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def is_own(self, token: str, use: Use) -> bool:
        """Whether this server, or another node of it, has made a token for this use, whether or not it is valid."""
        try:
            return self._verified(token).use == use
        except Unauthorized:
            return False

    def verify(self, token: str, now_s: float, use: Use = "") -> Claims:
        """Raises Unauthorized. Expiry has a message of its own, because a page reacts to it. All other failures share
        one, so that an attacker learns nothing."""
        claims = self._verified(token)
        if claims.not_before_s > now_s or claims.use != use:
            raise Unauthorized("the token is not valid; log in again")
        if claims.expires_s <= now_s:
            raise Unauthorized("the token has expired; log in again")
        return claims

    def _decode(self, token: str) -> Claims:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise Unauthorized("the token is not valid; log in again")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options=_OPTIONS)
            actor = Actor(str(claims["sub"]), str(claims["username"]), int(claims["gen"]), str(claims.get("sid", "")))
            # Tokens of older versions have no ``auth_time``. Each of them was made by a login.
            login_s = int(claims.get("auth_time", claims["iat"]))
            use = str(claims.get("use", ""))
            return Claims(actor, int(claims["exp"]), login_s, int(claims.get("nbf", 0)), use)
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthorized("the token is not valid; log in again") from None
