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

# First what stays as it is: strings, templates, and regular expressions, which follow one of these characters. Then
# what stands between the words of a program: white space and comments. Tests compare each module with what is sent.
_TOKEN = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"""
    r"""|(?<=[(,=:!&|?;{}\[])[ ]?/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/)"""
    r"""|(?:\s|//.*|/\*(?:(?!\*/)[^\0])*\*/)+"""
)
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
