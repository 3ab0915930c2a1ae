"""Broker: a zero-code real-time API server.

What this package offers is imported when it is first used, because most commands do not need the server, and would
start three times slower with it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from broker.version import __version__

if TYPE_CHECKING:
    from broker.broker import Broker as Broker
    from broker.server.workers import broker_run as broker_run
    from broker.settings import Settings as Settings
    from broker.web.app import create_app as create_app

__all__ = ["broker_run", "create_app", "Broker", "Settings", "__version__"]

_MODULES = {
    "Broker": "broker.broker",
    "Settings": "broker.settings",
    "broker_run": "broker.server.workers",
    "create_app": "broker.web.app",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'broker' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
