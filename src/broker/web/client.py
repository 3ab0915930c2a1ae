"""The client for pages: ``/broker.js``, its modules under ``/broker/<hash>/``, its types, the package, and what coding
agents read about it.

The hash is one of all modules, so a page never has modules of two versions, and each of them may be kept forever.
``/broker.js`` alone is asked for again after each release. The module ``broker.js`` has those that it imports in it, so
that a browser asks for one file, and not for twenty, one after the other as it reads them."""

from __future__ import annotations

import gzip
import io
import tarfile
from functools import partial
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from broker.web.modules import IMMUTABLE, JAVASCRIPT, NO_CACHE, File, Once, joined, stripped, version_of
from broker.web.requests import Header, respond

_TEXT = b"text/plain; charset=utf-8"  # so that a browser shows it
_ARCHIVE = b"application/gzip"
# Every page may load the client, as from any other host of scripts; whether it may call the API is another matter.
_HEADERS: tuple[Header, ...] = ((b"access-control-allow-origin", b"*"),)
# A page that is reloaded without a network still finds the client, and with a network it has the newest a minute later.
_ENTRY_AGE = b"public, max-age=60, stale-while-revalidate=2592000"

_PACKED = (".js", ".d.ts", "package.json", "llms.txt")  # as `files` in package.json says

# ``import.meta.url`` is where this file came from, also behind a proxy and a mount, and in a page of another origin.
_ENTRY = """\
import {{ createBroker as create }} from "./broker/{version}/broker.js";
export * from "./broker/{version}/broker.js";
const here = new URL("./", import.meta.url);
export const createBroker = (url = here, options = undefined) => create(url, options);
"""


class Client:
    """The five endpoints. The files are read at the start, and joined and compressed when the first of them is asked
    for."""

    def __init__(self) -> None:
        folder = resources.files("broker") / "js"
        package = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(_PACKED)}
        files = {name: body.decode() for name, body in package.items() if name.endswith((".js", ".d.ts"))}
        self.version = version_of(files)
        self._entry = File(_ENTRY.format(version=self.version), JAVASCRIPT, _ENTRY_AGE, _HEADERS)
        self._types = File(files["types.d.ts"], _TEXT, _ENTRY_AGE, _HEADERS)
        self._guide = File(package["llms.txt"].decode(), _TEXT, _ENTRY_AGE, _HEADERS)
        self._package = Once(partial(_packed, package))
        self._modules = Once(partial(_modules, files))

    async def entry(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry.send(scope, send)

    async def types(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._types.send(scope, send)

    async def guide(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guide.send(scope, send)

    async def package(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = ((b"access-control-allow-origin", b"*"), (b"cache-control", NO_CACHE))
        await respond(send, 200, await self._package.get(), _ARCHIVE, headers)

    async def module(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds with the file of this version, whatever the version in the path is: a page that a cache or another
        node has sent an older or newer ``/broker.js`` gets a client, too. But only the right one may be kept."""
        version, name = scope["path_params"]["version"], scope["path_params"]["file"]
        modules = await self._modules.get()
        if name not in modules:
            raise HTTPException(404)
        await modules[name].send(scope, send, keep=version == self.version)


def _modules(files: dict[str, str]) -> dict[str, File]:
    """Returns what is served below the version."""
    return {
        "broker.js": File(joined(files, "broker.js"), JAVASCRIPT, IMMUTABLE, _HEADERS),
        "forms.js": File(joined(files, "forms.js"), JAVASCRIPT, IMMUTABLE, _HEADERS),
        "react.js": File(stripped(files["react.js"]), JAVASCRIPT, IMMUTABLE, _HEADERS),
        "types.d.ts": File(files["types.d.ts"], _TEXT, IMMUTABLE, _HEADERS),
    }


def _packed(files: dict[str, bytes]) -> bytes:
    """Returns the package, as `npm pack` makes it. The same files give the same bytes, so that the checksum in a lock
    file of npm's stays right for as long as the version of Broker does."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(archive.getvalue(), mtime=0)
