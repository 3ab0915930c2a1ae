"""The client for pages: ``/broker.js``, its modules under ``/broker/<hash>/``, its types, the package, and what coding
agents read about it.

The hash is one of all modules, so a page never has modules of two versions, and each of them may be kept forever.
``/broker.js`` alone is asked for again after each release. The module ``broker.js`` has those that it imports in it, so
that a browser asks for one file, and not for twenty, one after the other as it reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from broker.web.front_end import codings
from broker.web.requests import Header, respond

_JAVASCRIPT = b"text/javascript; charset=utf-8"
_TEXT = b"text/plain; charset=utf-8"  # so that a browser shows it
_ARCHIVE = b"application/gzip"
# Every page may load the client, as from any other host of scripts; whether it may call the API is another matter.
_HEADERS: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"), (b"x-content-type-options", b"nosniff"), (b"vary", b"Accept-Encoding"),
)  # fmt: skip
_IMMUTABLE = b"public, max-age=31536000, immutable"
# A page that is reloaded without a network still finds the client, and with a network it has the newest a minute later.
_ENTRY_AGE = b"public, max-age=60, stale-while-revalidate=2592000"
_PACKAGE_AGE = b"no-cache"  # whoever installs it wants the one that fits the server

# Comments that have lines of their own are not sent, because they are a third of the bytes; the source distribution and
# the package for npm have them.
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*\*(?:(?!\*/)[^\0])*\*/)\n", re.MULTILINE)
_IMPORT = re.compile(r'^import {.*} from "\./(.*)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function )", re.MULTILINE)

_PACKED = (".js", ".d.ts", "package.json", "llms.txt")  # as `files` in package.json says

# ``import.meta.url`` is where this file came from, also behind a proxy and a mount, and in a page of another origin.
_ENTRY = """\
import {{ createBroker as create }} from "./broker/{version}/broker.js";
export * from "./broker/{version}/broker.js";
const here = new URL("./", import.meta.url);
export const createBroker = (url = here, options = undefined) => create(url, options);
"""


class Client:
    """The five endpoints. The files are read and compressed once, and kept in memory."""

    def __init__(self) -> None:
        folder = resources.files("broker") / "js"
        package = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(_PACKED)}
        files = {name: body.decode() for name, body in package.items() if name.endswith((".js", ".d.ts"))}
        digest = hashlib.sha256("".join(f"{name}\0{files[name]}" for name in sorted(files)).encode())
        self.version = digest.hexdigest()[:16]
        self._entry = _File(_ENTRY.format(version=self.version), _JAVASCRIPT, _ENTRY_AGE)
        self._types = _File(files["types.d.ts"], _TEXT, _ENTRY_AGE)
        self._guide = _File(package["llms.txt"].decode(), _TEXT, _ENTRY_AGE)
        self._package = _packed(package)
        self._modules = {
            "broker.js": _File(_COMMENT.sub("", _joined(files, "broker.js")), _JAVASCRIPT, _IMMUTABLE),
            "react.js": _File(_COMMENT.sub("", files["react.js"]), _JAVASCRIPT, _IMMUTABLE),
            "types.d.ts": _File(files["types.d.ts"], _TEXT, _IMMUTABLE),
        }

    async def entry(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry.send(scope, send)

    async def types(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._types.send(scope, send)

    async def guide(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guide.send(scope, send)

    async def package(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = ((b"access-control-allow-origin", b"*"), (b"cache-control", _PACKAGE_AGE))
        await respond(send, 200, self._package, _ARCHIVE, headers)

    async def module(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds with the file of this version, whatever the version in the path is: a page that a cache or another
        node has sent an older or newer ``/broker.js`` gets a client, too. But only the right one may be kept."""
        version, name = scope["path_params"]["version"], scope["path_params"]["file"]
        if name not in self._modules:
            raise HTTPException(404)
        await self._modules[name].send(scope, send, keep=version == self.version)


class _File:
    def __init__(self, text: str, media_type: bytes, age: bytes) -> None:
        body = text.encode()
        self._bodies = {"": body, "gzip": gzip.compress(body, mtime=0)}
        self._media_type = media_type
        self._age = age

    async def send(self, scope: Scope, send: Send, *, keep: bool = True) -> None:
        coding = "gzip" if "gzip" in codings(scope) else ""
        headers = (*_HEADERS, (b"cache-control", self._age if keep else _PACKAGE_AGE))
        if coding:
            headers = (*headers, (b"content-encoding", b"gzip"))
        await respond(send, 200, self._bodies[coding], self._media_type, headers)


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


def _joined(files: dict[str, str], name: str) -> str:
    """Returns a module together with all that it imports, and that these import, as one module. What they declare has
    different names, and nothing is renamed where it is imported, so only ``import`` and ``export`` are taken out."""
    modules: dict[str, str] = {}

    def add(each: str) -> None:
        if each not in modules:
            for other in _IMPORT.findall(files[each]):
                add(other)
            text = _IMPORT.sub("", files[each])
            modules[each] = text if each == name else _EXPORT.sub("", text)

    add(name)
    return "\n".join(modules.values())
