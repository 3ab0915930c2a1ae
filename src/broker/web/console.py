"""The console: the page, its style sheet, and its modules under ``/$console/<hash>/``.

What the page needs at first is one module, ``main.js``, with all that it imports. Each module that is imported when a
screen is opened is a file with what it alone imports; what ``main.js`` has already, it imports from there. The style
sheets that have the names of such modules are loaded with them, and the others at first. The client is the file that
pages use, too. All links are relative, so they are right at ``/``, at ``/$console`` and below the path
of another app."""

from __future__ import annotations

import re
from functools import partial
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from broker.addresses import is_loopback
from broker.errors import NotFound
from broker.settings import Settings
from broker.web.modules import (
    IMMUTABLE,
    JAVASCRIPT,
    NO_CACHE,
    File,
    Once,
    imported,
    joined,
    version_of,
    without_comments,
)
from broker.web.static import HTML

_CSS = b"text/css; charset=utf-8"
_LATER = re.compile(r'(?<!\{)\bimport\("\./(.*?)"\)')  # a module that is imported when it is needed; no type
_STYLED = re.compile(r'\bstyled\("(\w+)"')  # such a module whose style sheets are loaded with it

# Nothing of another host is loaded, nothing is sent there, and no text ever becomes markup or a program.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    b"trusted-types 'none'"
)
_PAGE_HEADERS = (
    (b"content-security-policy", _POLICY), (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)  # fmt: skip


def console_path(settings: Settings) -> str | None:
    """Returns the path of the console, or None if it is off.

    With a front-end, it is off by itself on other addresses than this machine's: scripts of the front-end, and whatever
    gets into them, have the console's origin, and could act with the rights of an administrator who has logged in
    there. (A name other than ``localhost`` may mean any address.)"""
    if settings.console == "no":
        return None
    if settings.static is None:
        return "/"
    is_local = settings.host.lower() == "localhost" or is_loopback(settings.host)
    return "/$console" if is_local or settings.console == "yes" else None


class Console:
    """The two endpoints. The files are read at the start, and joined and compressed when the first of them is asked
    for."""

    def __init__(self, settings: Settings, client: str) -> None:
        """``client`` is the version of the client (``/broker/<client>/broker.js``)."""
        self._off = ""
        if console_path(settings) is None:
            why = "it was turned off" if settings.console == "no" else "with static, it is only for this machine"
            self._off = f"there is no console: {why} ({settings.named('console')}); GET /docs shows what there is"
        sources = {} if self._off else _texts("console", ".js", ".css") | _texts("js", ".js")
        self.version = version_of(sources)
        self._files = Once(partial(_files, sources, client))
        page = (resources.files("broker") / "console" / "index.html").read_text()
        page = page.replace("{files}", f"$console/{self.version}").replace("{client}", f"broker/{client}/broker.js")
        self._page = File(page, HTML, NO_CACHE, _PAGE_HEADERS)

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._off:
            raise NotFound(self._off)
        await self._page.send(scope, send)

    async def file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds with the file of this version, as ``Client.module`` does."""
        version, name = scope["path_params"]["version"], scope["path_params"]["file"]
        files = {} if self._off else await self._files.get()
        if name not in files:
            raise HTTPException(404)
        await files[name].send(scope, send, keep=version == self.version)


def _files(sources: dict[str, str], client: str) -> dict[str, File]:
    """Returns the files that the page needs, by their names."""
    sheets = {name: text for name, text in sources.items() if name.endswith(".css")}
    modules = {name: text for name, text in sources.items() if name not in sheets}
    del modules["js/broker.js"]  # a file of its own, which the front-end's pages may have loaded already
    main = imported(modules, "console/main.js")
    later = {f"console/{name}" for text in modules.values() for name in _LATER.findall(without_comments(text))}
    others = {name: text for name, text in modules.items() if name not in main and name not in later}

    def url(module: str) -> str:
        if module == "js/broker.js":
            return f"../../broker/{client}/broker.js"
        return f"./{module.removeprefix('console/')}" if module in later else "./main.js"

    files = {"main.js": joined(modules, "console/main.js", keep_exports=True, url=url)}
    for name in sorted(later):
        files[name.removeprefix("console/")] = joined(others | {name: modules[name]}, name, url=url)
    first = dict.fromkeys(["console/style.css", *sorted(sheets)])
    for screen in {name for text in files.values() for name in _STYLED.findall(text)}:
        name = f"console/{screen}.js"
        chunk = imported(others | {name: modules[name]}, name)
        own = {each.replace(".js", ".css") for each in chunk} & sheets.keys()
        files[f"{screen}.css"] = without_comments("".join(sheets[name] for name in sorted(own)))
        first = {name: None for name in first if name not in own}
    files["console.css"] = without_comments("".join(sheets[name] for name in first))
    return {name: File(text, _CSS if name.endswith(".css") else JAVASCRIPT, IMMUTABLE) for name, text in files.items()}


def _texts(folder: str, *suffixes: str) -> dict[str, str]:
    """Returns the files of a folder of the package, by their names with the folder's."""
    files = (resources.files("broker") / folder).iterdir()
    return {f"{folder}/{each.name}": each.read_text() for each in files if each.name.endswith(suffixes)}
