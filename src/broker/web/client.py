"""The client for pages: ``/broker.js``, its modules under ``/broker/<hash>/``, and its types.

The hash is one of all modules, which import each other by relative paths. So a page never has modules of two versions,
and each of them may be kept forever. ``/broker.js`` alone is asked for again after each release."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from broker.web.front_end import codings
from broker.web.requests import Header, respond

_JAVASCRIPT = b"text/javascript; charset=utf-8"
_TEXT = b"text/plain; charset=utf-8"  # so that a browser shows it
# Every page may load the client, as from any other host of scripts; whether it may call the API is another matter.
_HEADERS: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"), (b"x-content-type-options", b"nosniff"), (b"vary", b"Accept-Encoding"),
)  # fmt: skip
_IMMUTABLE = b"public, max-age=31536000, immutable"
# A page that is reloaded without a network still finds the client, and with a network it has the newest a minute later.
_ENTRY_AGE = b"public, max-age=60, stale-while-revalidate=2592000"

# ``import.meta.url`` is where this file came from, also behind a proxy and a mount, and in a page of another origin.
_ENTRY = """\
import {{ createBroker as create }} from "./broker/{version}/broker.js";
export * from "./broker/{version}/broker.js";
const here = new URL("./", import.meta.url);
export const createBroker = (url = here, options = undefined) => create(url, options);
"""


class Client:
    """The three endpoints. The files are read and compressed once, and kept in memory."""

    def __init__(self) -> None:
        folder = resources.files("broker") / "js"
        files = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith((".js", ".d.ts"))}
        digest = hashlib.sha256(b"".join(name.encode() + b"\0" + files[name] for name in sorted(files)))
        self.version = digest.hexdigest()[:16]
        self._entry = _File(_ENTRY.format(version=self.version).encode(), _JAVASCRIPT, _ENTRY_AGE)
        self._types = _File(files["types.d.ts"], _TEXT, _ENTRY_AGE)
        self._modules = {
            name: _File(body, _JAVASCRIPT if name.endswith(".js") else _TEXT, _IMMUTABLE)
            for name, body in files.items()
        }  # fmt: skip

    async def entry(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry.send(scope, send)

    async def types(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._types.send(scope, send)

    async def module(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds with 404 for another version: modules of two versions would not fit together."""
        version, name = scope["path_params"]["version"], scope["path_params"]["file"]
        if version != self.version or name not in self._modules:
            raise HTTPException(404)
        await self._modules[name].send(scope, send)


class _File:
    def __init__(self, body: bytes, media_type: bytes, age: bytes) -> None:
        self._bodies = {"": body, "gzip": gzip.compress(body, mtime=0)}
        self._media_type = media_type
        self._headers = (*_HEADERS, (b"cache-control", age))

    async def send(self, scope: Scope, send: Send) -> None:
        coding = "gzip" if "gzip" in codings(scope) else ""
        headers = (*self._headers, (b"content-encoding", b"gzip")) if coding else self._headers
        await respond(send, 200, self._bodies[coding], self._media_type, headers)
