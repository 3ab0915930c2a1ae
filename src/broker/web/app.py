"""The ASGI app: the table of routes, and what stands around them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import Unavailable
from broker.settings import Settings, read_settings
from broker.web.accounts import Login, Me, Users
from broker.web.health import Metrics, Ready, healthz
from broker.web.insert import Cancel, Insert
from broker.web.log import Log
from broker.web.middleware import CORS, Problems
from broker.web.requests import Bodies, Methods
from broker.web.static import HTML, Asset
from broker.web.stream import Events


def routes(broker: Broker) -> list[Route]:
    """Every route; the first are the busiest."""
    bodies = Bodies(broker.settings)
    insert, events, log, cancel = Insert(broker, bodies), Events(broker), Log(broker), Cancel(broker)
    return [
        Route("/insert", Methods(POST=insert)),
        Route("/events", Methods(GET=events)),
        Route("/login", Methods(POST=Login(broker, bodies))),
        Route("/users", Methods(POST=Users(broker, bodies))),
        Route("/users/me", Methods(GET=Me(broker))),
        Route("/collections/{event:path}", Methods(GET=log)),
        Route("/collection/{event:path}", Methods(GET=log)),
        Route("/cancel/{uuid:path}", Methods(GET=cancel, POST=cancel, head=False)),
        Route("/cancel", Methods(GET=cancel, POST=cancel, head=False)),
        Route("/openapi.json", Methods(GET=Asset("openapi.json"))),
        Route("/docs", Methods(GET=Asset("docs.html", HTML))),
        Route("/healthz", Methods(GET=healthz)),
        Route("/readyz", Methods(GET=Ready(broker))),
        Route("/metrics", Methods(GET=Metrics(broker))),
    ]


class App:
    """Broker as an ASGI app, to run by itself or to mount in another one.

    Mounted, its lifespan never runs by itself: the host enters ``lifespan`` in its own."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        # redirect_slashes would send a client that mistyped /insert/ somewhere else, without its body.
        self._router = Router(routes(broker), redirect_slashes=False, lifespan=self.lifespan)
        self._http = CORS(Problems(self._run, broker.refusals), broker.settings.origin, broker.settings.allow_header)

    @contextlib.asynccontextmanager
    async def lifespan(self, host: object = None) -> AsyncIterator[None]:
        """Starts and stops Broker; fits as ``lifespan=`` of Starlette and FastAPI."""
        async with self.broker.lifespan():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._router(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.broker.running:
            raise Unavailable(
                "Broker was not started: the host application must enter broker.lifespan in its own lifespan"
            )
        scope.setdefault("app", self)  # makes the router raise, not answer, for unknown addresses
        await self._router(scope, receive, send)


def create_app(settings: Settings | None = None) -> App:
    """An ASGI app. Without ``settings``, from the environment. Raises SettingsError."""
    return App(Broker(settings or read_settings({})))
