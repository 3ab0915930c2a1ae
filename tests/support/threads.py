"""Broker in a thread of the test, where the test can look inside."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from broker import Broker, Settings
from broker.records import NewRecord, make_uuid
from broker.server.admission import Admission
from broker.server.run import Server
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.servers import ServerProcess, wait_for

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class ThreadServer(ServerProcess):
    """Broker in a thread of this process, on a loop of choice: to look inside and to publish without HTTP."""

    def __init__(self, data: Path, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None, **more: Any) -> None:
        super().__init__(data)
        self.loop = loop
        self.broker = Broker(Settings(data=data, **more))
        app = App(self.broker)
        config = uvicorn.Config(app, ws="none", lifespan="off", loop="none", log_config=None, access_log=False)
        config.load()
        config.ssl = tls
        admission = Admission(self.broker.settings, self.broker.hub)
        self.server = Server(config, app, admission, "a test", lambda *_: None)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def publish(self, *data: str, event: str = "e") -> None:
        async def publish() -> None:
            await asyncio.gather(
                *[self.broker.insert([NewRecord(make_uuid(1), event, each.encode(), "ada")], OPERATOR) for each in data]
            )

        self.call(publish())

    def serve(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]

        async def run() -> None:
            async with self.broker.lifespan():
                await self.server.serve([listener])

        self.loop.run_until_complete(run())
        self.loop.close()


@contextmanager
def serving(data: Path, loop: str, tls: ssl.SSLContext | None = None, **more: Any) -> Iterator[ThreadServer]:
    server = ThreadServer(data, LOOPS[loop](), tls, **more)
    thread = threading.Thread(target=server.serve)
    thread.start()
    wait_for(lambda: server.server.started)
    try:
        yield server
    finally:
        server.call(server.broker.close_streams())
        server.server.should_exit = True
        thread.join(20)
