"""Chooses the store that the settings ask for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from broker.errors import SettingsError
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import Store
from broker.store.outage import NO_DRIVER
from broker.store.sqlite.store import SQLiteStore


def wall_clock_us() -> int:
    """Returns the time of this machine in microseconds since 1970."""
    return time.time_ns() // 1_000


def make_store(settings: Settings, clock: Callable[[], int] | None, rights: Rights) -> Store:
    if not settings.database:
        return SQLiteStore(settings.data / "broker.db", settings, clock or wall_clock_us, rights)
    with naming_the_store(settings):
        try:
            from broker.store.postgres.store import PostgresStore
        except ImportError:
            raise SettingsError(NO_DRIVER) from None
        return PostgresStore(settings.database, settings, clock, rights)


@contextlib.contextmanager
def naming_the_store(settings: Settings) -> Iterator[None]:
    """Makes the store's refusal name the setting that chose the store, and where its value came from."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{settings.named('database' if settings.database else 'data')}: {error}") from error
