"""ES modules as they are served: several joined into one, without their comments, and compressed."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from starlette.types import Scope, Send

from broker.web.front_end import codings
from broker.web.requests import Header, respond

_T = TypeVar("_T")

JAVASCRIPT = b"text/javascript; charset=utf-8"
NO_CACHE = b"no-cache"
IMMUTABLE = b"public, max-age=31536000, immutable"

# What stays as it is: strings, regular expressions, which follow one of these characters, and templates.
_STRING = r"""(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
_PATTERN = r"(?:(?<=[(,=:!&|?;{}\[])[ ]?/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/)"
# The code in a template may have braces and templates in it again: so deep as the modules need.
_CODE, _TEMPLATE = rf"""(?:{_STRING}|[^"'`{{}}])*""", r"`(?:\\.|[^`\\])*`"
for _ in range(2):
    _CODE = rf"""(?:{_STRING}|{_PATTERN}|{_TEMPLATE}|\{{{_CODE}\}}|[^"'`{{}}])*"""
    _TEMPLATE = rf"`(?:\\.|\$\{{{_CODE}\}}|\$(?!\{{)|[^`\\$])*`"
# Behind that, what stands between the words of a program: white space and comments. Tests compare each module with what
# is sent.
_TOKEN = re.compile(rf"({_STRING}|{_TEMPLATE}|{_PATTERN})" r"|(?:\s|//.*|/\*(?:(?!\*/)[^\0])*\*/)+")
_SIGNS = frozenset("=(){}[],;:?<>&|*!")  # no word, and nothing that two of could mean something else, as + and / do
_IMPORT = re.compile(r'^import \{(.*)\} from "(\.{1,2}/.*)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |class |const |function )", re.MULTILINE)


def without_comments(text: str) -> str:
    """Returns a module, or a style sheet, without comments and indentation, which are half of it; the source
    distribution and the package for npm have them. A line break stays, because it may end a statement."""
    return _without_comments(text, frozenset())


def stripped(text: str) -> str:
    """Returns a module without comments, indentation, and white space beside signs."""
    return _without_comments(text, _SIGNS)


def _without_comments(text: str, signs: frozenset[str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        if "\n" in found[0]:
            return "\n"
        return "" if signs.intersection(found.string[found.start() - 1] + found.string[found.end()]) else " "

    return _TOKEN.sub(replaced, text.strip() + "\n").lstrip()


def joined(
    files: dict[str, str], name: str, *, keep_exports: bool = False, url: Callable[[str], str] = "./{}".format
) -> str:
    """Returns a module together with all that it imports, and that these import, as one module, without comments.

    What the modules declare has different names, and nothing is renamed where it is imported, so only ``import`` and
    ``export`` are taken out. ``export`` stays in the module itself, and in all of them with ``keep_exports``. A module
    that ``files`` does not have is imported from its ``url``."""
    outside: dict[str, set[str]] = {}
    texts = []
    for each in imported(files, name):
        for names, path in _IMPORT.findall(files[each]):
            if (other := resolved(each, path)) not in files:
                outside.setdefault(url(other), set()).update(names.strip().split(", "))
        text = _IMPORT.sub("", files[each])
        texts.append(text if each == name or keep_exports else _EXPORT.sub("", text))
    imports = [f'import {{ {", ".join(sorted(outside[path]))} }} from "{path}";' for path in sorted(outside)]
    return stripped("\n".join([*imports, *texts]))


def imported(files: dict[str, str], name: str) -> list[str]:
    """Returns the names of a module and of all that are joined into it, each of them after those that it imports."""
    found: dict[str, None] = {}

    def add(each: str) -> None:
        for _, path in _IMPORT.findall(files[each]):
            if (other := resolved(each, path)) in files and other not in found:
                add(other)
        found[each] = None

    add(name)
    return list(found)


def version_of(files: dict[str, str]) -> str:
    """Returns what stands in the paths of what is made of these files: a hash of them, and of this module, which makes
    it. So what is served at a path never changes, and may be kept forever."""
    texts = {**files, __name__: Path(__file__).read_text()}
    return hashlib.sha256("".join(f"{name}\0{texts[name]}" for name in sorted(texts)).encode()).hexdigest()[:16]


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
        self._bodies = {"": body, "gzip": gzip.compress(body, mtime=0)}
        self._media_type = media_type
        self._age = age
        self._headers = (*headers, (b"x-content-type-options", b"nosniff"), (b"vary", b"Accept-Encoding"))

    async def send(self, scope: Scope, send: Send, *, keep: bool = True) -> None:
        """Responds with the file. Unless ``keep``, it must not be kept, because it is the one of another version."""
        coding = "gzip" if "gzip" in codings(scope) else ""
        headers = (*self._headers, (b"cache-control", self._age if keep else NO_CACHE))
        if coding:
            headers = (*headers, (b"content-encoding", b"gzip"))
        await respond(send, 200, self._bodies[coding], self._media_type, headers)


class Once(Generic[_T]):
    """A value that is made when somebody first asks for it, so that the start of a server does not wait for it; and in
    a thread, so that the event loop, which has streams to serve, does not wait for it either."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._lock = threading.Lock()  # who asks while it is made waits for the same value
        self._made: list[_T] = []

    async def get(self) -> _T:
        if not self._made:
            await asyncio.to_thread(self._make_once)
        return self._made[0]

    def _make_once(self) -> None:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
