"""The ASGI app: the table of routes, and the middleware around them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import Unavailable
from broker.settings import Settings, read_settings
from broker.web.about import About
from broker.web.accounts import Accounts
from broker.web.cancel import Cancel
from broker.web.client import Client
from broker.web.console import Console
from broker.web.direct import Direct, DirectInsert, DirectStream
from broker.web.front_end import FrontEnd, navigates
from broker.web.health import Health
from broker.web.insert import Insert
from broker.web.keys import Keys
from broker.web.log import Log
from broker.web.metrics import Metrics
from broker.web.middleware import CORS, Open, Problems
from broker.web.pending import Pending
from broker.web.requests import Bodies, Methods
from broker.web.rights import Rights
from broker.web.schema import Types
from broker.web.session import Session
from broker.web.snapshot import Snapshot
from broker.web.static import HTML, Asset
from broker.web.stream import Stream
from broker.web.users import Users


def _routes(broker: Broker, bodies: Bodies, insert: Insert, stream: Stream, metrics: Metrics) -> list[Route]:
    """Every route. They are tried in this order, so the busiest stand first."""
    accounts = Accounts(broker, bodies)
    session = Session(broker, bodies)
    users = Users(broker, bodies)
    keys = Keys(broker, bodies)
    rights = Rights(broker, bodies)
    types = Types(broker)
    client = Client()
    console = Console(broker.settings, client.version)
    page = Methods(GET=console.page)
    log, cancel = Methods(GET=Log(broker).read), Cancel(broker).cancel
    return [
        Route("/insert", Methods(POST=insert.insert)),
        Route("/events", Methods(GET=stream.open, POST=stream.open_by_body)),
        Route("/login", Methods(POST=accounts.log_in)),
        Route("/token", Methods(POST=accounts.renew)),
        Route("/logout", Methods(POST=accounts.log_out)),
        Route("/session", Methods(POST=session.open, DELETE=session.close)),
        Route("/users", Methods(GET=users.list, POST=accounts.sign_up)),
        Route("/users/me", Methods(GET=accounts.me)),
        Route("/users/me/password", Methods(POST=accounts.change_password)),
        Route("/users/{id}/roles", Methods(POST=users.set_roles)),
        Route("/users/{id}/disable", Methods(POST=users.disable)),
        Route("/users/{id}/enable", Methods(POST=users.enable)),
        Route("/users/{id}/reset", Methods(POST=users.reset)),
        Route("/users/{id}/erase", Methods(POST=users.erase)),
        Route("/keys", Methods(GET=keys.list, POST=keys.add)),
        Route("/keys/{id}/revoke", Methods(POST=keys.revoke)),
        Route("/admin", Methods(POST=users.become_first)),
        Route("/rights", Methods(GET=rights.mine)),
        Route("/rules/check", Methods(POST=rights.check)),
        Route("/snapshot", Methods(GET=Snapshot(broker).read)),
        Route("/pending", Methods(GET=Pending(broker).read)),
        Route("/collections/{event:path}", log),
        Route("/collection/{event:path}", log),
        Route("/schema/{event:path}", Methods(GET=types.schema)),
        Route("/types.d.ts", Methods(GET=types.declarations)),
        Route("/cancel/{uuid:path}", Methods(GET=cancel, POST=cancel, head=False)),
        Route("/cancel", Methods(GET=cancel, POST=cancel, head=False)),
        Route("/broker.js", Methods(GET=client.entry)),
        Route("/broker/{version}/{file}", Methods(GET=client.module)),
        Route("/broker.d.ts", Methods(GET=client.types)),
        Route("/broker.tgz", Methods(GET=client.package)),
        Route("/llms.txt", Methods(GET=client.guide)),
        Route("/about", Methods(GET=About(broker).read)),
        *([Route("/", page)] if broker.settings.static is None else []),
        Route("/$console", page),
        Route("/$console/{version}/{file}", Methods(GET=console.file)),
        Route("/openapi.json", Methods(GET=Asset("openapi.json").get)),
        Route("/docs", Methods(GET=Asset("docs.html", HTML).get)),
        Route("/healthz", Methods(GET=Health(broker).alive)),
        Route("/readyz", Methods(GET=Health(broker).ready)),
        Route("/metrics", Methods(GET=metrics.read)),
    ]


class App:
    """Broker as an ASGI app, to run by itself or to mount in another one.

    When it is mounted, its lifespan does not run by itself: the host application enters ``lifespan`` in its own.

    Mutable state: ``refusals`` counts the error responses by status; ``Problems`` adds to it, ``Metrics`` reads it."""

    def __init__(self, broker: Broker, worker: str = "") -> None:
        """``worker`` is the name of this process among several behind one port, which its metrics carry. Raises
        SettingsError."""
        self.broker = broker
        folder = broker.settings.static
        self._front_end = FrontEnd(broker.settings, folder) if folder is not None else None
        refusals: Counter[int] = Counter()
        bodies = Bodies(broker.settings)
        insert, stream = Insert(broker, bodies), Stream(broker, bodies)
        self.routes = _routes(broker, bodies, insert, stream, Metrics(broker, refusals, worker))
        # redirect_slashes would send a client that mistyped /insert/ somewhere else, without its body.
        self._router = Router(self.routes, redirect_slashes=False, lifespan=self.lifespan)
        if self._front_end is not None:
            self._router.default = self._no_route
        open_ = Open(self._run, broker)
        problems = Problems(open_, refusals)
        self._http = CORS(
            problems, broker.settings.origin, broker.settings.allow_header, broker.settings.credential_origins
        )
        self.direct = Direct(
            DirectInsert(broker, insert, self._http, open_, problems),
            DirectStream(broker, stream, self._http, open_, self._shows_page),
        )

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
        # Starlette's router responds to an unknown path by itself, unless an app is in the scope: then it raises, and
        # ``Problems`` responds.
        scope.setdefault("app", self)
        # Somebody who opens or reloads /login in a browser wants the page that has this route, and not the API's 405.
        # The console alone is never hidden by a front-end.
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # without that of a mount
        is_read = scope["method"] in ("GET", "HEAD") and not f"{path}/".startswith("/$console/")
        if self._front_end is not None and is_read and navigates(scope):
            await self._front_end.respond(scope, receive, send, fallback=True)
        else:
            await self._router(scope, receive, send)

    def _shows_page(self, scope: Scope) -> bool:
        return self._front_end is not None and navigates(scope)

    async def _no_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds where no route of the API is, if there is a front-end."""
        if self._front_end is not None and scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            await self._front_end.respond(scope, receive, send)
        else:
            await self._router.not_found(scope, receive, send)


def create_app(settings: Settings | None = None) -> App:
    """Returns an ASGI app. Without ``settings``, they are read from the environment. Raises SettingsError."""
    return App(Broker(settings or read_settings({})))
