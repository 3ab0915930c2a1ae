"""A client of nodes that are killed while it uses them: it sends a request again until the request is answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from tests.support.servers import ServerProcess

PATIENCE_S = 1.5  # for how long a client waits for a node before it continues at another one
AGAIN_S = 0.05  # between two attempts
CUT_S = [0.0, 0.001, 0.005, 0.02]  # the moments at which a client cuts a connection, before or after the commit
GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Response(NamedTuple):
    status: int
    body: bytes
    sent: int  # how often the request was sent; if more than once, an earlier one may have been carried out


class Connection:
    """One connection, which is made again, to another node, when it is lost.

    Mutable state: the connection, and the node to which it is made."""

    def __init__(self, another: Callable[[ServerProcess | None], ServerProcess], token: str) -> None:
        """``another`` returns the node to continue at when the connection to the given one is lost."""
        self._another = another
        self._token = token.encode()
        self._node: ServerProcess | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def insist(self, path: str, body: bytes, *, cut_s: float | None = None) -> Response:
        """Sends the request again, to another node, until it is answered by something else than 503.

        ``cut_s``: for how long the connection stays open the first time. Then it is cut, and the request has perhaps
        been carried out, or another node gets it while it is being carried out."""
        sent = 0
        if cut_s is not None:
            sent += 1
            with suppress(*GONE):
                _, writer = await self._send(path, body)
                await writer.drain()
                await asyncio.sleep(cut_s)
            self.close()
        while True:
            sent += 1
            answer = await self.post(path, body)
            if answer is not None and answer[0] != 503:
                return Response(*answer, sent)
            self.close()
            await asyncio.sleep(AGAIN_S)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Returns status and body, or None if the connection was lost. Then the request may have been carried out, or
        not."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._post(path, body)
        except GONE:
            self.close()
            return None

    async def _send(self, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._node = self._another(self._node)
            self._streams = await asyncio.open_connection("127.0.0.1", self._node.port)
        reader, writer = self._streams
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path.encode(), self._token, len(body), body)
        )
        return reader, writer

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        reader, _ = await self._send(path, body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        answer = await reader.readexactly(int(length[1]))
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
