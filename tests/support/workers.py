"""The processes of a server with several workers."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import ServerProcess

WORKERS = 2


def workers(server: ServerProcess) -> list[int]:
    """The process ids of those that live."""
    pid = server.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [each for each in children if "broker.server.workers" in Path(f"/proc/{each}/cmdline").read_text()]
