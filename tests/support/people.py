"""Users in a store, who insert in their own names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from msgspec import structs

from broker.names import RULES_EVENT
from broker.records import NewRecord, Record, make_uuid
from broker.rules.rights import Rights, encode_rules
from broker.store.base import Store
from broker.users import OPERATOR, Actor, User
from tests.support.store import Workbench

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2E$" + "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
ADA, BOB, EVE = (Actor(str(UUID(int=number)), name) for number, name in enumerate(("ada", "bob", "eve"), 1))


class People:
    """Three users, and the rules, in a store."""

    def __init__(self, bench: Workbench, store: Store) -> None:
        self.bench = bench
        self.store = store

    async def arrive(self, toml: str = "") -> None:
        for actor in (ADA, BOB, EVE):
            await self.store.add_user(User(actor.user_id, actor.username, b"null", HASH))
        if toml:
            await self.set_rules(toml)

    async def set_rules(self, toml: str, later_us: int | None = None) -> Record:
        return await self.insert(RULES_EVENT, encode_rules(toml).decode(), None, later_us)

    def new(self, event: str, data: str = "1", later_us: int | None = None, who: str = "", **more: object) -> NewRecord:
        return structs.replace(self.bench.new(event, data, later_us, **more), user=who, uuid=make_uuid(2))

    async def insert(
        self, event: str, data: str, actor: Actor | None, later_us: int | None = None, **more: object
    ) -> Record:
        """As this actor; None: as the operator."""
        new = self.new(event, data, later_us, actor.username if actor else "", **more)
        ((record, _),) = await (self.store.append([new]) if actor is None else self.store.append([new], actor))
        return record

    async def state(self, actor: Actor, **changes: object) -> User:
        def change(user: User) -> User:
            return replace(user, state=structs.replace(user.state, **changes))

        return await self.store.change_user(actor.user_id, change, OPERATOR)

    async def publish_due_after(self, us: int) -> None:
        """Moves the clock forward, and publishes what is due by then."""
        self.bench.now_us += us
        await self.store.publish_due()

    async def log(self, event: str) -> list[Record]:
        page = await self.store.log_end(event, None, None, descending=False)
        return [] if page.last is None else await self.store.log(event, None, page.last, 10**9, descending=False)


@asynccontextmanager
async def people_in(
    bench: Workbench, toml: str = "", rights: Rights | None = None, **settings: int
) -> AsyncIterator[People]:
    """Opens the store, and puts the three users and the rules into it. ``rights``: the view of its node."""
    async with bench.opened(rights, **settings) as store:
        people = People(bench, store)
        await people.arrive(toml)
        yield people
