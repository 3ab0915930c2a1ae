"""ES modules as they are served: several joined into one, without their comments, and compressed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable

from starlette.types import Scope, Send

from broker.web.front_end import codings
from broker.web.requests import Header, respond

JAVASCRIPT = b"text/javascript; charset=utf-8"
NO_CACHE = b"no-cache"
IMMUTABLE = b"public, max-age=31536000, immutable"

# Comments that have lines of their own are not sent, because they are a third of the bytes; the source distribution and
# the package for npm have them.
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*\*(?:(?!\*/)[^\0])*\*/)\n", re.MULTILINE)
_IMPORT = re.compile(r'^import \{(.*)\} from "(\.{1,2}/.*)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function )", re.MULTILINE)


def joined(
    files: dict[str, str], name: str, *, keep_exports: bool = False, url: Callable[[str], str] = "./{}".format
) -> str:
    """Returns a module together with all that it imports, and that these import, as one module, without comments.

    What the modules declare has different names, and nothing is renamed where it is imported, so only ``import`` and
    ``export`` are taken out. ``export`` stays in the module itself, and in all of them with ``keep_exports``. A module
    that ``files`` does not have is imported from its ``url``."""
    texts: dict[str, str] = {}
    outside: dict[str, set[str]] = {}

    def add(each: str) -> None:
        if each in texts:
            return
        for names, path in _IMPORT.findall(files[each]):
            if (other := resolved(each, path)) in files:
                add(other)
            else:
                outside.setdefault(url(other), set()).update(names.replace(" ", "").split(","))
        text = _IMPORT.sub("", files[each])
        texts[each] = text if each == name or keep_exports else _EXPORT.sub("", text)

    add(name)
    imports = [f'import {{ {", ".join(sorted(outside[path]))} }} from "{path}";' for path in sorted(outside)]
    return _COMMENT.sub("", "\n".join([*imports, *texts.values()]))


def imported(files: dict[str, str], name: str) -> set[str]:
    """Returns the names of a module and of all that are joined into it."""
    found = {name}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        others = {resolved(each, path) for _, path in _IMPORT.findall(files[each])} & files.keys() - found
        found |= others
        waiting += others
    return found


def resolved(module: str, path: str) -> str:
    """Returns the name of the module that ``module`` imports by this path. Names are those of one folder, or have that
    of another folder before them."""
    folder = module.rpartition("/")[0]
    while path.startswith("../"):
        folder, path = folder.rpartition("/")[0], path.removeprefix("../")
    return f"{folder}/{path.removeprefix('./')}".removeprefix("/")


class File:
    """One file, with what may be done with it: compressed once, and kept in memory."""

    def __init__(self, text: str, media_type: bytes, age: bytes, headers: tuple[Header, ...] = ()) -> None:
        body = text.encode()
        self.bodies = {"": body, "gzip": gzip.compress(body, mtime=0)}
        self._media_type = media_type
        self._age = age
        self._headers = (*headers, (b"x-content-type-options", b"nosniff"), (b"vary", b"Accept-Encoding"))

    async def send(self, scope: Scope, send: Send, *, keep: bool = True) -> None:
        """Responds with the file. Unless ``keep``, it must not be kept, because it is the one of another version."""
        coding = "gzip" if "gzip" in codings(scope) else ""
        headers = (*self._headers, (b"cache-control", self._age if keep else NO_CACHE))
        if coding:
            headers = (*headers, (b"content-encoding", b"gzip"))
        await respond(send, 200, self.bodies[coding], self._media_type, headers)
