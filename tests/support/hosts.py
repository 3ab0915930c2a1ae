"""Applications that Broker is mounted in, run under plain Uvicorn, in processes of their own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.servers import ServerProcess, wait_for

STARLETTE = """
from pathlib import Path

from broker import Settings, create_app
from starlette.applications import Starlette
from starlette.routing import Mount

live = create_app(Settings(data=Path("data"), origin=("http://localhost:3000",)))
app = Starlette(routes=[Mount("/live", live)], lifespan=live.lifespan)
"""

FASTAPI = """
from contextlib import asynccontextmanager
from pathlib import Path

from broker import Settings, create_app
from fastapi import FastAPI

live = create_app(Settings(data=Path("data"), origin=("http://localhost:3000",)))


@asynccontextmanager
async def lifespan(app):
    async with live.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/live", live)
"""


# Two Brokers under one host, each with a folder of its own. What Uvicorn logs of requests is printed, too, for
# `--access-log`.
TWO_BROKERS = """
import contextlib, logging, pathlib
from starlette.applications import Starlette
from starlette.routing import Mount
from broker import Settings, create_app

logging.getLogger("uvicorn.access").addHandler(logging.StreamHandler())
one, two = (create_app(Settings(data=pathlib.Path(name))) for name in ("one", "two"))

@contextlib.asynccontextmanager
async def lifespan(app):
    async with one.lifespan(), two.lifespan():
        yield

app = Starlette(routes=[Mount("/one", one), Mount("/two", two)], lifespan=lifespan)
"""


class HostProcess(ServerProcess):
    """``app`` in ``source``, served by `uvicorn` from a folder of its own."""

    def __init__(self, folder: Path, source: str, *options: str, mount: str = "/live") -> None:
        super().__init__(folder)
        self.mount = mount
        self._options = [*options]
        (folder / "main.py").write_text(source)

    @property
    def url(self) -> str:
        return super().url + self.mount

    def start(self) -> HostProcess:
        command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(self.port), "--no-access-log"]
        with self.reading_log() as (log, env):
            self._process = subprocess.Popen(
                [*command, "--timeout-graceful-shutdown", "1", *self._options], cwd=self.data, stderr=log, env=env
            )
        wait_for(lambda: self._runs() or self.process.poll() is not None, what="the host's start")
        assert self.process.poll() is None, f"the host ended: {self.log}"
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        """By Ctrl-C: Uvicorn raises SIGTERM again once it is done, and what was measured would be lost."""
        return super().stop(number)

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.process.kill()

    def _runs(self) -> bool:
        for line in self.log:
            if match := re.search(r"running on http://127\.0\.0\.1:(\d+) ", line):
                self.port = int(match[1])
                return True
        return False
