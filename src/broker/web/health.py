"""``/healthz`` and ``/readyz``, for load balancers and supervisors."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.web.requests import respond_json

_OK = b'{"status":"ok"}'


class Health:
    """``alive`` says that the process responds; ``ready`` also that the store can be reached and every task runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def alive(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(send, 200, _OK)

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._broker.ready()
        await respond_json(send, 200, _OK)
