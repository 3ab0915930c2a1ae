"""``/healthz``, ``/readyz``, ``/metrics``: for operators and their machines."""

from __future__ import annotations

import hmac

from starlette.types import Receive, Scope, Send

from broker.addresses import is_loopback
from broker.broker import Broker
from broker.errors import Forbidden
from broker.web.requests import address, header, respond


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, b'{"status":"ok"}')


class Ready:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._broker.ready()
        await respond(send, 200, b'{"status":"ok"}')


class Metrics:
    """In Prometheus' text format; see docs/http.md for what each means."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._may_read(scope):
            others = "others send Authorization: Bearer <metrics_token>"
            if not self._broker.settings.metrics_token:
                others = "to let others read them, set metrics_token"
            raise Forbidden(f"metrics are for this machine, and not through a proxy; {others}")
        now, refusals = self._broker.statistics(), self._broker.refusals
        values: list[tuple[str, str, dict[str, int]]] = [
            ("broker_subscribers", "gauge", {"": now.subscribers}),
            ("broker_position", "counter", {"": now.position}),
            ("broker_deliveries_total", "counter", {"": now.deliveries}),
            ("broker_writes_waiting", "gauge", {"": now.writes_waiting}),
            ("broker_refusals_total", "counter", {f'status="{each}"': refusals[each] for each in (429, 503, 507)}),
        ]
        # Which of several workers answers is chance: with the label each has series of its own.
        worker = f'worker="{self._broker.worker}"' if self._broker.worker else ""
        lines = []
        for name, kind, series in values:
            lines.append(f"# TYPE {name} {kind}\n")
            for label, value in series.items():
                labels = ",".join(filter(None, (label, worker)))
                lines.append(f"{name}{labels and f'{{{labels}}}'} {value}\n")
        await respond(send, 200, "".join(lines).encode(), b"text/plain; version=0.0.4; charset=utf-8")

    def _may_read(self, scope: Scope) -> bool:
        token = self._broker.settings.metrics_token
        scheme, _, given = (header(scope, b"authorization") or "").partition(" ")
        right = hmac.compare_digest(given.strip(" \t").encode("latin-1"), token.encode())
        if token and scheme.lower() == "bearer" and right:
            return True
        # Behind a proxy on this machine everybody seems to be local.
        forwarded = any(header(scope, name) for name in (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"))
        return not forwarded and is_loopback(address(scope))
