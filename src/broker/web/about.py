"""``GET /about``: what a page wants to know about this server before anybody has logged in."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.names import NAME_BYTES_MAX
from broker.records import seconds
from broker.version import __version__
from broker.web.requests import NO_STORE, respond_json

# The limits that a page can use: to refuse what the server would refuse, and to ask for as much as it may.
_LIMITS = ("body_bytes_max", "batch_records_max", "event_names_max", "filters_max")


class AboutView(msgspec.Struct):
    """The JSON. ``time`` is the server's clock, in seconds since 1970."""

    version: str
    console_name: str
    signup: bool
    first_run: bool
    rules: bool
    time: msgspec.Raw
    limits: dict[str, int]


class About:
    """The endpoint.

    Mutable state: whether there is a user, which stays so once it was seen; until then, the store is asked."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._has_users = False

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker, settings = self._broker, self._broker.settings
        if not self._has_users:
            self._has_users = bool(await broker.store.users("", 1))
        view = AboutView(
            version=__version__, console_name=settings.console_name, signup=settings.signup,
            first_run=not self._has_users, rules=broker.rights.rules is not None, time=seconds(broker.store.clock()),
            limits={name: getattr(settings, name) for name in _LIMITS} | {"name_bytes_max": NAME_BYTES_MAX},
        )  # fmt: skip
        await respond_json(send, 200, msgspec.json.encode(view), headers=NO_STORE)
