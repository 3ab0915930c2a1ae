"""Broker: a zero-code real-time API server."""

from broker.broker import Broker
from broker.server.workers import broker_run
from broker.settings import Settings
from broker.web.app import create_app

__version__ = "0.1.0"

__all__ = ["broker_run", "create_app", "Broker", "Settings", "__version__"]
