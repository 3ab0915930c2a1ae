"""What administrators do with the accounts of others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hmac import compare_digest

from msgspec import structs

from broker.accounts.accounts import Accounts, digest_of, end_sessions
from broker.errors import BadRequest, Forbidden, NotFound
from broker.rules.rights import Rights
from broker.rules.who import ADMIN, ROLE
from broker.store.base import Store
from broker.users import OPERATOR, Actor, User, check_username

_CODE_S = 3_600  # for how long a code to set a new password is valid


@dataclass(frozen=True, slots=True)
class Code:
    """A code to set a new password with. Times are in microseconds since 1970."""

    code: str = field(repr=False)
    until_us: int


class Administration:
    """The use cases of administrators and of the operator. The store judges again, in its transaction, whether the
    actor may change an account. Each of them raises Forbidden, NotFound and Unavailable.

    Mutable state: the code that makes somebody the first administrator, as long as there is one."""

    def __init__(self, store: Store, accounts: Accounts, rights: Rights, clock: Callable[[], int]) -> None:
        """``clock`` returns microseconds since 1970."""
        self._store = store
        self._accounts = accounts
        self._rights = rights
        self._clock = clock
        self._first: Code | None = None

    def invite_first(self) -> Code | None:
        """Returns a code that makes whoever sends it with a token the first administrator, or None if there is an
        administrator. Only this node knows it, and forgets it when it stops."""
        if self._has_administrator():
            return None
        self._first = Code(secrets.token_urlsafe(15), self._clock() + _CODE_S * 1_000_000)
        return self._first

    async def become_first(self, code: str, actor: Actor) -> User:
        """Makes the actor, whose token is valid, an administrator. Raises Forbidden for a code that is wrong, was used,
        or is too old, and once there is an administrator."""
        first = self._first
        # Digests are compared, so that the response time does not reveal how much of the code was right.
        right = first is not None and compare_digest(digest_of(first.code), digest_of(code))
        if first is None or not right or first.until_us <= self._clock() or self._has_administrator():
            raise Forbidden(
                "code: it is wrong, was used, or is too old; the operator makes administrators with `broker user role "
                "NAME admin`"
            )
        self._first = None  # before anything waits, so that it counts once

        def change(user: User) -> User:
            roles = tuple(sorted({*user.state.roles, ADMIN}))
            return replace(user, state=structs.replace(user.state, roles=roles))

        return await self._accounts.change(actor.user_id, change, OPERATOR)

    def _has_administrator(self) -> bool:
        return any(ADMIN in state.roles and not state.disabled for state in self._rights.users.values())

    def demand(self, actor: Actor) -> None:
        """Raises Forbidden unless the actor is an administrator or the operator."""
        if ADMIN not in self._rights.person(actor).roles:
            raise Forbidden("only an administrator may do this")

    async def users(self, after: str, limit: int, actor: Actor) -> list[User]:
        """Returns users by name, after this name in lower case."""
        self.demand(actor)
        return await self._store.users(after.lower(), limit)

    async def user(self, username: str, actor: Actor) -> User:
        """Returns the user with this name. Raises BadRequest for what is no name."""
        self.demand(actor)
        user = await self._store.user_by_name(check_username(username))
        if user is None:
            raise NotFound(f"no user is called {username}")
        return user

    async def set_roles(self, user_id: str, roles: Sequence[str], actor: Actor) -> User:
        """Gives a user these roles, and no others. Raises BadRequest for a role that the rules do not name, unless the
        user has it already, from earlier rules."""
        rules = self._rights.rules
        known = {ADMIN} | (set() if rules is None else rules.roles)

        def change(user: User) -> User:
            for role in roles:
                if role not in known and role not in user.state.roles:
                    shown = role if ROLE.match(role) else "one of them"
                    raise BadRequest(f"roles: {shown} is no role of the rules; there are {', '.join(sorted(known))}")
            return replace(user, state=structs.replace(user.state, roles=tuple(sorted(set(roles)))))

        return await self._change(user_id, change, actor)

    async def disable(self, user_id: str, actor: Actor) -> User:
        """Ends all sessions and streams of a user, who cannot log in any more."""
        return await self._change(user_id, lambda user: _disabled(user) if not user.state.disabled else user, actor)

    async def enable(self, user_id: str, actor: Actor) -> User:
        """Lets a user log in again. The old tokens stay invalid."""
        return await self._change(user_id, lambda user: _enabled(user) if user.state.disabled else user, actor)

    async def reset(self, user_id: str, actor: Actor) -> Code:
        """Returns a code with which the user can set a new password once. An earlier code is not valid any more."""
        code = Code(secrets.token_urlsafe(15), self._clock() + _CODE_S * 1_000_000)
        await self._change(
            user_id, lambda user: replace(user, code=digest_of(code.code), code_until_us=code.until_us), actor
        )
        return code

    async def _change(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        self.demand(actor)  # also for the own account: a user cannot give himself a role
        if not user_id.isprintable():  # PostgreSQL refuses a NUL in a text
            raise NotFound("no user has this id")
        return await self._accounts.change(user_id, change, actor)


def _disabled(user: User) -> User:
    ended = end_sessions(user)
    return replace(ended, state=structs.replace(ended.state, disabled=True), code="")


def _enabled(user: User) -> User:
    # No token is valid now. ``gen`` is raised nevertheless, so that every node can see which state is the newer one.
    ended = end_sessions(user)
    return replace(ended, state=structs.replace(ended.state, disabled=False))
