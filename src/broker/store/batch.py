"""The items of one request, which are carried out all or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from broker.records import Cancel
from broker.store.base import Item
from broker.users import Actor


class Batch(NamedTuple):
    """The items of one request, and in whose name they are carried out."""

    items: Sequence[Item]
    actor: Actor


def look_ups(batches: Iterable[Batch]) -> tuple[set[str], set[UUID]]:
    """Returns the names of events, and the uuids, that these batches are about. A uuid that the server has generated is
    new, so it is not among them."""
    names: set[str] = set()
    uuids: set[UUID] = set()
    for items, _ in batches:
        for item in items:
            # ``isinstance`` takes ten times as long for a msgspec.Struct, because its metaclass is an ABCMeta.
            if type(item) is Cancel:
                uuids.add(item.uuid)
                continue
            names.add(item.event)
            if item.uuid_given:
                uuids.add(item.uuid)
            if isinstance(item.if_latest, UUID):
                uuids.add(item.if_latest)
    return names, uuids
