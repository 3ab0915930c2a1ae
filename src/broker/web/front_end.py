"""The front-end that the setting ``static`` names: a folder of built files, which is served at ``/``.

Starlette's ``FileResponse`` sends the files piece by piece, reads them in threads, and answers ``Range``; what is here
decides which file that is. ``App`` decides between a file and a route of the API."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
import os
import re
from functools import lru_cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Receive, Scope, Send

from broker.errors import SettingsError, Unavailable
from broker.settings import KIB, MIB, Settings
from broker.web.requests import header

logger = logging.getLogger("broker")

# What is never served, whatever the folder has: hidden files, such as .git and .env, which excludes ``..`` as well;
# names that a system could read as another name (a backslash, a zero byte); and the place of the console.
# And the files of Broker's own data folder, which somebody may have left in this one.
_NEVER = re.compile(r"(\A|/)\.|[\\\0]|\A\$console(/|\Z)|(\A|/)(broker\.db|broker\.lock|token-secret)")
_INDEX = "index.html"
_SUFFIXES = {"br": ".br", "gzip": ".gz"}  # of precompressed files, by their Content-Encoding; the smaller first
# A compressed file that is older than its original by more than this was forgotten in a build. (The tools that copy a
# build to a server may give the two any order within a few seconds.)
_OLDER_MAX_S = 60
# Characters of a list in a header that are read, because reading takes the time of the event loop. Browsers send 150.
_LIST_MAX = 1_000
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")  # RFC 9110, section 12.4.2
_HASHED_MAX = 8 * MIB  # bytes of a file whose content is hashed
# One range of bytes. ``FileResponse`` answers 400 to ranges in other units or forms, which a server must or may ignore
# (RFC 9110, section 14.2), and to none of them is the whole file a wrong response.
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18})")

# Python's own table, and never the one of the system, so that a file has the same type on every machine. What is added
# is missing or different in some of the versions of Python that Broker runs on.
_TYPES = mimetypes.MimeTypes()
for _suffix, _type in {
    ".avif": "image/avif", ".cjs": "text/javascript", ".ico": "image/x-icon", ".js": "text/javascript",
    ".map": "application/json", ".md": "text/markdown", ".mjs": "text/javascript", ".otf": "font/otf",
    ".ttf": "font/ttf", ".wasm": "application/wasm", ".webmanifest": "application/manifest+json",
    ".webp": "image/webp", ".woff": "font/woff", ".woff2": "font/woff2", ".xml": "text/xml",
}.items():  # fmt: skip
    _TYPES.add_type(_type, _suffix)


def navigates(scope: Scope) -> bool:
    """Returns whether a browser asks for a page to show. Browsers say so in ``Sec-Fetch-Mode``, but over plain http
    only to servers on their own machine; otherwise it shows in ``Accept``, where a navigation prefers HTML."""
    mode = header(scope, b"sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    # No browser sends a token with a navigation, but some HTTP clients prefer HTML without meaning it.
    if header(scope, b"authorization") is not None:
        return False
    weights = _weights(header(scope, b"accept") or "")
    return weights.get("text/html", 0) > 0 and max(weights, key=weights.__getitem__) == "text/html"


def _weights(value: str) -> dict[str, float]:
    """Returns what a header such as ``Accept`` lists, with the weight of each, in lower case."""
    weights = {}
    for part in value[:_LIST_MAX].lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        weights[name] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    return weights


def _find(root: str, name: str) -> str | None:
    """Returns the path, without links, of the file or folder that has this name; None if there is none. Raises
    HTTPException for what is never served: what is outside of ``root``, where links may lead; what may not be read; and
    what is neither file nor folder, such as a pipe, from which reading would never end."""
    try:
        path = os.path.realpath(f"{root}/{name}", strict=True)
    except (OSError, ValueError):  # a name that is too long and a loop of links are here, too
        return None
    served = os.path.isdir(path) or (os.path.isfile(path) and os.access(path, os.R_OK))
    if not served or os.path.commonpath((root, path)) != root:
        raise HTTPException(404)
    return path


class _File(FileResponse):
    """Half of Starlette's pieces: a client that does not read then costs 80 KB, instead of 230 KB."""

    chunk_size = 32 * KIB


def _tag(path: str, *version: int) -> str:
    """Returns the ``ETag`` of a file, a hash of its content; ``version`` changes when the content may have changed.

    Size and time alone would not do: many builds give each file the same time, and a page that only names other files
    keeps its size. And a hash is the same on every machine that serves the same build. But to read a large file, such
    as a film, takes too long; nobody makes one that differs from the last build and has its size and times."""
    if version[0] > _HASHED_MAX:
        return f'W/"{"-".join(format(each, "x") for each in version)}"'
    with open(path, "rb") as file:
        return f'"{hashlib.file_digest(file, "blake2b").hexdigest()[:32]}"'


class FrontEnd:
    """Serves the files of one folder. The folder is looked up for each request, because it may be built again while the
    server runs; and if it is a link, the link may be switched to another build.

    Mutable state: the tags of the files that were sent last (``_tag``), because it takes time to read a large file."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Raises SettingsError."""
        _check(settings, folder)
        self._folder = folder
        self._tag = lru_cache(maxsize=1_024)(_tag)
        self._conditions = StaticFiles()  # it knows when a response is 304

    async def respond(self, scope: Scope, receive: Receive, send: Send, *, fallback: bool = False) -> None:
        """Responds with the file at this path. If there is none, it responds with the page whose script knows what to
        show there (``fallback``), or raises HTTPException."""
        try:
            response = await asyncio.to_thread(self._response, scope, fallback)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # a build has just removed or replaced it
            raise HTTPException(404) from None
        asked = _RANGE.fullmatch(header(scope, b"range") or "") if scope["method"] == "GET" else None
        same = header(scope, b"if-range") in (None, response.headers.get("etag"))
        whole = not asked or not same or (asked[2] and int(asked[1]) > int(asked[2]))
        left_out = (b"range", b"if-range") if whole else (b"if-range",)
        scope = {**scope, "headers": [each for each in scope["headers"] if each[0] not in left_out]}
        try:
            await response(scope, receive, send)
        except (RuntimeError, OSError) as error:  # Uvicorn: it is longer or shorter than its Content-Length
            # The server closes the connection, so that the client does not take a part of the file for all of it.
            raise Unavailable("the file was changed while it was sent; send this again in a moment") from error

    def _response(self, scope: Scope, fallback: bool) -> Response:
        """Runs in a thread, because a disk may be slow. Raises HTTPException and OSError."""
        name = scope["path"].removeprefix(scope.get("root_path", ""))
        name = (f"{name}{_INDEX}" if name.endswith("/") else name).removeprefix("/")
        if _NEVER.search(name):
            raise HTTPException(404)
        root = os.path.realpath(self._folder)
        path, vary = _find(root, name), "Accept-Encoding"
        if path is not None and os.path.isdir(path):
            if _find(root, f"{name}/{_INDEX}"):
                return _with_slash(scope)
            path = None
        if path is None and fallback:
            # At an address such as /login, requests that are no navigation get the API's response.
            name, vary = _INDEX, "Accept-Encoding, Accept, Sec-Fetch-Mode"
            path = _find(root, name)
        if path is None:
            raise HTTPException(404)
        # Browsers may keep each file, but have to ask each time whether it is still the same: the address of a page is
        # the same after the next build, and a page of the last build names files that are there no more.
        headers = {"cache-control": "no-cache", "vary": vary, "x-content-type-options": "nosniff"}
        for coding in codings(scope):
            smaller = _find(root, name + _SUFFIXES[coding])
            if smaller and os.path.getmtime(smaller) >= os.path.getmtime(path) - _OLDER_MAX_S:
                path, headers["content-encoding"] = smaller, coding
                break
        status = os.stat(path)
        headers["etag"] = self._tag(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        response = _File(path, headers=headers, media_type=_media_type(name), stat_result=status)
        del response.headers["last-modified"]  # another build may have the same time, or an earlier one
        if self._conditions.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def _media_type(name: str) -> str:
    media_type, coding = _TYPES.guess_type(f"./{name}")  # otherwise a name such as data:x would count as a URL
    if coding is not None:  # a compressed file that is asked for by its own name
        media_type = "application/gzip" if coding == "gzip" else None
    return media_type or "application/octet-stream"


def _with_slash(scope: Scope) -> Response:
    """Redirects to the same address with a slash at its end, without which the links of the page would be wrong.

    The URL is relative, so it is right also behind a proxy that removes a prefix of the path."""
    last = (scope.get("raw_path") or scope["path"].encode()).rpartition(b"/")[2].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse(f"./{last}/{query and '?'}{query}")


def codings(scope: Scope) -> list[str]:
    """Returns the codings of compressed files that the client accepts, the best first."""
    weights = _weights(header(scope, b"accept-encoding") or "")
    accepted = {coding: weights.get(coding, weights.get("*", 0)) for coding in _SUFFIXES}
    return sorted((coding for coding in accepted if accepted[coding] > 0), key=lambda coding: -accepted[coding])


def _check(settings: Settings, folder: Path) -> None:
    """Raises SettingsError if the folder is not one to serve."""
    name = f"{settings.named('static')}: {folder}"
    if not folder.exists():
        raise SettingsError(f"{name} is not there; build your front-end first, and give the folder of the build")
    if not (folder / _INDEX).is_file():
        raise SettingsError(
            f"{name} has no {_INDEX}; build your front-end first, and give the folder of the build, such as dist"
        )
    if (folder / "package.json").exists():
        logger.warning(
            "%s has a package.json, so it looks like the sources of a front-end; everybody can read all that it has. "
            "Give the folder of the build, such as %s", name, folder / "dist",
        )  # fmt: skip
    root = os.path.realpath(folder)
    private = {
        settings.named("data"): settings.data, settings.named("rules"): settings.rules,
        settings.named("tls_key"): settings.tls_key,
    }  # fmt: skip
    if settings.database and not (settings.data / "token-secret").exists():
        del private[settings.named("data")]  # it is only the default of a setting that is not used
    for source in settings.sources.values():
        file, is_file, _ = source.rpartition(", line ")
        if is_file:
            private["the settings file"] = Path(file)
    for other, path in private.items():
        if path is not None and os.path.commonpath((root, os.path.realpath(path))) == root:
            raise SettingsError(
                f"{name} contains {path}, which is {other}, and everybody could read it; give a folder that has only "
                "the front-end"
            )
