"""What administrators do with the accounts of others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hmac import compare_digest

from msgspec import structs

from broker.accounts.accounts import Accounts, digest_of, end_session
from broker.accounts.keys import KEYS_MAX, NewKey, is_expired, make_key, user_id_of
from broker.errors import BadRequest, Conflict, Forbidden, NotFound
from broker.records import make_uuid
from broker.rules.rights import Rights
from broker.rules.who import ADMIN, ROLE
from broker.store.base import Store
from broker.users import OPERATOR, Actor, Key, User, UserState, check_new_username, check_username

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
        known = self._known_roles()

        def change(user: User) -> User:
            return replace(user, state=structs.replace(user.state, roles=_checked(roles, known | {*user.state.roles})))

        return await self._change(user_id, change, actor)

    def _known_roles(self) -> set[str]:
        rules = self._rights.rules
        return {ADMIN} | (set() if rules is None else rules.roles)

    async def disable(self, user_id: str, actor: Actor) -> User:
        """Ends all sessions and streams of a user, who cannot log in any more."""
        return await self._change(user_id, lambda user: _disabled(user) if not user.state.disabled else user, actor)

    async def enable(self, user_id: str, actor: Actor) -> User:
        """Lets a user log in again. The old tokens stay invalid."""
        return await self._change(user_id, lambda user: _enabled(user) if user.state.disabled else user, actor)

    async def reset(self, user_id: str, actor: Actor) -> Code:
        """Returns a code with which the user can set a new password once. An earlier code is not valid any more."""
        code = Code(secrets.token_urlsafe(15), self._clock() + _CODE_S * 1_000_000)

        def change(user: User) -> User:
            if user.is_key:
                raise Conflict("this user is for programs, which have API keys and no password; make another key")
            return replace(user, code=digest_of(code.code), code_until_us=code.until_us)

        await self._change(user_id, change, actor)
        return code

    async def erase(self, user_id: str, actor: Actor) -> User:
        """Removes everything that is kept of a user but the id and a digest of the name, so that nobody else can get
        either. It ends all sessions, streams and API keys. What the user has inserted stays in the log."""
        return await self._change(user_id, User.erase, actor)

    # API keys

    async def keys(self, actor: Actor) -> list[tuple[User, Key]]:
        """Returns all API keys, and whose they are, in the order of the names."""
        self.demand(actor)
        return [(user, key) for user in await self._store.users_with_keys() for key in user.keys]

    async def add_key(
        self, name: str, roles: Sequence[str] | None, until_s: int | None, actor: Actor
    ) -> tuple[User, NewKey]:
        """Makes an API key for the program with this name, which becomes a user if it is none yet. ``until_s`` is when
        the key expires, in seconds since 1970. ``roles``: those of the program, which a program that is there must have
        already; None: none for a new one.

        A program may have two keys at a time: the one in use, and the one that replaces it. Raises BadRequest for what
        can be no name, for a role that the rules do not name, and for a time that has passed; Conflict if a person has
        the name, or if the program has other roles, has two keys already, or is disabled."""
        self.demand(actor)
        now_us = self._clock()
        now_s = now_us // 1_000_000
        if until_s is not None and until_s <= now_s:
            raise BadRequest("expires_at: this time has passed already; give a later one, or leave it out")
        known = self._known_roles()
        found = await self._store.user_by_name(check_username(name))
        if found is None:
            user_id = str(make_uuid(now_us // 1_000))
            made = make_key(user_id, now_s, until_s)
            state = UserState(roles=_checked(roles or (), known))
            user = User(user_id, check_new_username(name), b"null", "", state, keys=(made.key,))
            try:
                await self._store.add_user(user, actor)
                return user, made
            except Conflict:  # somebody else was faster, or an erased user had the name
                found = await self._store.user_by_name(name)
                if found is None:
                    raise
        made = make_key(found.id, now_s, until_s)

        def change(user: User) -> User:
            if not user.is_key:
                raise Conflict(f"{name} is a person, who logs in with a password; choose another name for the program")
            if user.state.disabled:
                raise Conflict(f"{name} is disabled; enable it first")
            if roles is not None and _checked(roles, known | {*user.state.roles}) != user.state.roles:
                raise Conflict(
                    f"roles: {name} has {', '.join(user.state.roles) or 'none'}, whichever key it sends; leave them "
                    "out, or change the roles of this user first"
                )
            kept = tuple(key for key in user.keys if not is_expired(key, now_s))
            if len(kept) >= KEYS_MAX:
                raise Conflict(f"{name} has {len(kept)} API keys already; revoke the older one first ({kept[0].id})")
            return replace(user, keys=(*kept, made.key))

        return await self._change(found.id, change, actor), made

    async def revoke_key(self, key_id: str, actor: Actor) -> User:
        """Makes an API key invalid, and ends the streams that were opened with it. Raises NotFound."""
        self.demand(actor)
        unknown = NotFound("no API key has this id; `broker key list` has those that there are")
        user_id = user_id_of(key_id) if not key_id.startswith("bk_") else None
        if user_id is None:
            raise unknown

        def change(user: User) -> User:
            keys = tuple(key for key in user.keys if key.id != key_id)
            if len(keys) == len(user.keys):
                raise unknown
            return end_session(replace(user, keys=keys), key_id)

        try:
            return await self._change(user_id, change, actor)
        except NotFound:
            raise unknown from None

    async def _change(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        self.demand(actor)  # also for the own account: a user cannot give himself a role
        unknown = NotFound("no user has this id, or the user was erased")
        if not user_id.isprintable():  # PostgreSQL refuses a NUL in a text
            raise unknown

        def change_unless_erased(user: User) -> User:
            if user.erased_key:
                raise unknown
            return change(user)

        return await self._accounts.change(user_id, change_unless_erased, actor)


def _checked(roles: Sequence[str], known: set[str]) -> tuple[str, ...]:
    """Returns the roles in order. Raises BadRequest for one that is not known."""
    for role in roles:
        if role not in known:
            shown = role if ROLE.match(role) else "one of them"
            raise BadRequest(f"roles: {shown} is no role of the rules; there are {', '.join(sorted(known))}")
    return tuple(sorted(set(roles)))


def _disabled(user: User) -> User:
    ended = user.end_sessions()
    return replace(ended, state=structs.replace(ended.state, disabled=True), code="")


def _enabled(user: User) -> User:
    # No token is valid now. ``gen`` is raised nevertheless, so that every node can see which state is the newer one.
    ended = user.end_sessions()
    return replace(ended, state=structs.replace(ended.state, disabled=False))
