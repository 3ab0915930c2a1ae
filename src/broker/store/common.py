"""What the stores on both databases share: the calls that write, and the check whether calls are accepted."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from broker.errors import BrokerError, Unavailable
from broker.records import Cancel, Record
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import Checkpoint, Head, Item, Result, VersionRow
from broker.store.writer import Writer
from broker.users import OPERATOR, Actor, User, username_key


class CommonStore(ABC):
    """A store whose writes all go through one ``Writer``. ``store/base.py`` says what the calls promise. What differs
    from one database to the other (start, stop, and most calls that read) is in the subclasses.

    Mutable state: whether the store runs (``_running``). A subclass sets this in ``start``, as soon as the writer runs,
    and clears it at the beginning of ``stop``. From then on no write is accepted, so that the writer can finish."""

    # The queries of each database, which its ``statements.py`` explains
    _salt: str
    _newest_checkpoint: str
    _checkpoint: str
    _head_at: str
    _state_at: str
    _planned: str

    def __init__(self, settings: Settings, rights: Rights | None) -> None:
        self._settings = settings
        self._rights = rights or Rights()
        self._writer = Writer(settings)
        self._running = False

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    def append(self, items: Sequence[Item], actor: Actor = OPERATOR, user: str = "") -> asyncio.Future[list[Result]]:
        self._check_running()
        return self._writer.append(items, actor, user)

    async def cancel(self, uuid: UUID, actor: Actor) -> Record:
        try:
            ((record, _),) = await self.append([Cancel(uuid, actor.username)], actor)
        except BrokerError as error:
            error.index = None  # the caller has no batch
            raise
        return record

    async def publish_due(self) -> None:
        self._check_running()
        await self._writer.publish_due()

    async def token_salt(self) -> str:
        (salt,) = await self._row(self._salt)
        return str(salt)

    async def newest_checkpoint(self) -> tuple[int, int]:
        row: tuple[int, int] | None = await self._row(self._newest_checkpoint)
        return row or (0, 0)

    async def head_at(self, time_us: int) -> Head:
        return Head(*await self._row(self._head_at, {"time": time_us}))

    async def state_at(self, position: int) -> list[VersionRow]:
        return await self._versions(self._state_at, {"position": position})

    async def planned(self, time_us: int, *, pending: bool, user: str | None = None) -> list[VersionRow]:
        return await self._versions(self._planned, {"time": time_us, "pending": pending, "user": user})

    async def make_checkpoint(self, position: int) -> None:
        self._check_running()
        row = await self._row(self._checkpoint, {"position": position})  # None: nothing was published there
        if row is not None:
            epoch, *values = row
            checkpoint = Checkpoint(*values)
            await self._writer.call(lambda transaction: transaction.add_checkpoint(epoch, checkpoint), alone=True)

    async def add_user(self, user: User, actor: Actor = OPERATOR) -> None:
        self._check_running()
        await self._writer.call(lambda transaction: transaction.add_user(user, actor))

    async def change_user(self, user_id: str, change: Callable[[User], User], actor: Actor) -> User:
        self._check_running()
        user: User = await self._writer.call(lambda transaction: transaction.change_user(user_id, change, actor))
        return user

    async def user_by_name(self, username: str) -> User | None:
        return await self._user("username_key", username_key(username))

    async def user_by_id(self, user_id: str) -> User | None:
        return await self._user("id", user_id)

    @abstractmethod
    async def _user(self, column: str, value: str) -> User | None:
        """Returns the user with this value in this column, or None. No two users have the same value in this column."""

    @abstractmethod
    async def _row(self, select: str, values: Any = ()) -> Any:
        """Returns the first row of a query, or None."""

    @abstractmethod
    async def _versions(self, select: str, values: dict[str, Any]) -> list[VersionRow]:
        """Returns the rows of a query in ascending order."""

    def _check_running(self) -> None:
        """Raises Unavailable if the store does not run. Every call of the store first calls this."""
        if not self._running:
            raise Unavailable("the server is stopping; ask again in a moment")
