"""``/metrics``, in the text format of Prometheus; docs/http.md says what each metric means."""

from __future__ import annotations

import hmac
from collections import Counter

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import Forbidden
from broker.web.requests import header, is_from_here, respond

_CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_REFUSALS = (429, 503, 507)  # statuses that say that a limit was reached


class Metrics:
    """Metrics are for this machine, and for clients with the ``metrics_token``, because they show how busy a server is.

    ``refusals`` holds the number of error responses with each status; it is only read here. ``worker`` is the name of
    this process among several behind one port, or empty."""

    def __init__(self, broker: Broker, refusals: Counter[int], worker: str) -> None:
        self._broker = broker
        self._refusals = refusals
        # Which of several workers responds is chance, so each has a series of its own.
        self._labels = [f'worker="{worker}"'] if worker else []

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_may_read(scope)
        now = self._broker.statistics()
        lines = [
            *self._metric("broker_subscribers", "gauge", {"": now.subscribers}),
            *self._metric("broker_position", "counter", {"": now.position}),
            *self._metric("broker_deliveries_total", "counter", {"": now.deliveries}),
            *self._metric("broker_writes_waiting", "gauge", {"": now.writes_waiting}),
            *self._metric(
                "broker_refusals_total",
                "counter",
                {f'status="{status}"': self._refusals[status] for status in _REFUSALS},
            ),
        ]
        await respond(send, 200, "\n".join([*lines, ""]).encode(), _CONTENT_TYPE)

    def _metric(self, name: str, kind: str, series: dict[str, int]) -> list[str]:
        """The lines of one metric. ``series`` has a value for each label, or one value for the empty label."""
        lines = [f"# TYPE {name} {kind}"]
        for label, value in series.items():
            labels = ",".join([*filter(None, [label]), *self._labels])
            lines.append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")
        return lines

    def _check_may_read(self, scope: Scope) -> None:
        """Raises Forbidden."""
        token = self._broker.settings.metrics_token
        scheme, _, sent = (header(scope, b"authorization") or "").partition(" ")
        equal = hmac.compare_digest(sent.strip(" \t").encode("latin-1"), token.encode())
        if token and scheme.lower() == "bearer" and equal:
            return
        if is_from_here(scope, through_proxy=False):
            return
        others = "others send Authorization: Bearer <metrics_token>"
        if not token:
            others = "to let others read them, set metrics_token"
        raise Forbidden(f"metrics are for this machine, and not through a proxy; {others}")
