"""Without rules, everybody may do everything. So a server without rules serves only this machine, unless the
setting ``open`` is on."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from socket import socket

from broker.broker import Broker
from broker.errors import SettingsError
from broker.settings import Settings

logger = logging.getLogger("broker.server")

_DAY_S = 86_400.0


def check_safety(broker: Broker, settings: Settings, listeners: list[socket]) -> None:
    """Raises SettingsError if a server without rules would be reachable from other machines, or if the rules replace a
    setting that was given."""
    if broker.rights.rules is not None and "events_public" in settings.sources:
        raise SettingsError(
            f"{settings.named('events_public')}: this log has rules, and they say who may read; remove the setting"
        )
    if broker.rights.rules is None and not settings.open and not _is_local(listeners):
        raise SettingsError(
            f"{settings.named('host')}: this log has no rules, so everybody who reaches {settings.host} could read and "
            "change everything. Give it rules (`broker rules init`, `broker rules apply`), or, if it is meant for "
            "everybody, start it with --open"
        )


def _is_local(listeners: list[socket]) -> bool:
    return all(ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback for listener in listeners)


async def remind(broker: Broker, settings: Settings, listeners: list[socket]) -> None:
    """Logs once a day that the server is open, until it is cancelled."""
    while settings.open and not _is_local(listeners):
        if broker.rights.rules is None:
            logger.warning(
                "this server has no rules, and is open: everybody who reaches it may read and change everything "
                "(docs/access.md)"
            )
        await asyncio.sleep(_DAY_S)


def invitation(broker: Broker, url: str, console: str | None) -> str:
    """Returns the message for the person who has started the server as long as there is no administrator, and otherwise
    "". The message contains a secret. ``url`` is the server's, and ``console`` is the path of the console, if it is on.

    In the link, the code is behind ``#``, so that a browser does not send it with the request for the page, and no
    proxy logs it."""
    code = broker.administration.invite_first()
    if code is None:
        return ""
    where = "--database …" if broker.settings.database else f"--data {broker.settings.data}"
    message = f"There is no administrator yet. `broker user role NAME admin {where}` makes one; or "
    if console is None:
        return f'{message}log in, and send within an hour: POST {url}/admin {{"code":"{code.code}"}}'
    return f"{message}open this link within an hour, and log in there: {url}{console}#/start?admin={code.code}"
