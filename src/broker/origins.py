"""Origins of web pages (RFC 6454), in the form that browsers send, and what a listed origin matches. The host and the
port of other URLs are parsed by the same functions."""

from __future__ import annotations

import ipaddress
import re
import stringprep
from collections.abc import Callable

# Pages of this machine, on every port: the development servers of front-ends choose their own.
LOCAL_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+")
_PORT = re.compile(r":[0-9]{1,5}\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "http://localhost:3000"
_NO_ADDRESS = "it has no host name, and no IPv6 address in brackets; write the latter as in http://[::1]:3000"
# IDNA 2003, which Python implements, and UTS 46, which browsers implement, encode these characters differently: ß, its
# capital, the final sigma, and the two joiners, which are invisible.
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def origins_matcher(origins: tuple[str, ...]) -> Callable[[str], bool]:
    """Returns a function that says whether an origin, as a browser sends it, is one of these, which ``parse_origin``
    returned. ``http://localhost:*`` matches every port, and ``http://localhost``, whose port is 80."""
    exact = frozenset(origins)
    any_port = tuple(origin.removesuffix(":*") for origin in origins if origin.endswith(":*"))

    def matches(origin: str) -> bool:
        return origin in exact or (bool(any_port) and _PORT.sub("", origin) in any_port)

    return matches


def parse_origin(text: str) -> str:
    """The origin as a browser sends it, ``*`` for all, or one of ``LOCAL_ORIGINS``.

    Raises ValueError with a sentence that says what to write."""
    if text == "*" or text in LOCAL_ORIGINS:
        return text
    _check_characters(text)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError(f"it does not begin with a scheme; write scheme://host:port, such as {_EXAMPLE}")
    for sign, what in (("@", "a user name or password"), ("?", "a query"), ("#", "a fragment"), ("\\", "a backslash")):
        if sign in rest:
            raise ValueError(f"an origin has no part with {sign}, {what}; write scheme://host:port")
    if rest.endswith("/") and rest.count("/") == 1 and rest != "/":
        raise ValueError(f"leave out the slash at the end: {scheme}://{rest[:-1]}")
    if "/" in rest:
        raise ValueError("an origin has no path; write scheme://host:port")
    if scheme == "file" and not rest:  # the web views of some phones send this origin
        return "file://"
    host, port = split_port(rest)
    host = _as_browsers_write(parse_host(host if host.isascii() else _to_ascii(host)))
    if port is None or port == _DEFAULT_PORTS.get(scheme):  # browsers leave the default port out
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _check_characters(text: str) -> None:
    if text.lower() == "null":
        raise ValueError(
            "every page that was opened from the disk or is in a sandboxed frame has the origin null, so it cannot be "
            f"allowed; serve the page over http, and give its origin then, such as {_EXAMPLE}"
        )
    if text.startswith("[") or text.count("]") > text.count("["):
        raise ValueError("a list is written without brackets and quotation marks: origins with commas between them")
    if not set("\"'`\u2018\u2019\u201c\u201d").isdisjoint(text):
        raise ValueError("it has quotation marks; leave them out (the env file of a container keeps them)")
    if "*" in text:
        raise ValueError(
            "* stands for every origin when alone, and otherwise only for the port of http://localhost:* and "
            "http://127.0.0.1:*; give each origin by itself"
        )
    if re.search(r"[\s\x00-\x1f\x7f-\x9f]", text):
        raise ValueError("there is a blank within it; write scheme://host:port, and commas between several")


def split_port(text: str) -> tuple[str, int | None]:
    """Returns the host and the port of ``host:port``. The port may be left out. Raises ValueError."""
    host, colon, port = text.rpartition(":") if re.search(r":[^\]]*$", text) else (text, "", "")
    if not colon:
        return host, None
    if not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= 65_535):
        raise ValueError(f"there is no port behind the colon; write 1 to 65535, as in {_EXAMPLE}, or no colon")
    return host, int(port)


def parse_host(host: str) -> str:
    """Returns a host name in ASCII and in lower case, or an IPv6 address in brackets. Raises ValueError."""
    if host.startswith("["):
        inside = re.fullmatch(r"\[([^\[\]]*)\]", host)
        try:
            return f"[{ipaddress.IPv6Address(inside[1] if inside else '')}]"
        except ValueError:
            raise ValueError(_NO_ADDRESS) from None
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets: http://[::1]:3000")
    try:
        name = (host if host.isascii() else host.encode("idna").decode("ascii")).lower()
    except UnicodeError:  # a part of the name is empty, or longer than 63 bytes
        name = ""
    if not _HOST.fullmatch(name) or ".." in name or name.startswith("."):
        raise ValueError(f"it has no host name that can be looked up; write scheme://host:port, such as {_EXAMPLE}")
    return name


def _as_browsers_write(host: str) -> str:
    last = host.removesuffix(".").rpartition(".")[2]
    if last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):  # browsers parse this as an IPv4 address, in any notation
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("browsers send no IPv4 address in this form; write four numbers, 127.0.0.1") from None
    if not host.startswith("["):
        return host
    address = ipaddress.IPv6Address(host[1:-1])
    if address.scope_id is not None:
        raise ValueError(_NO_ADDRESS)
    if address.ipv4_mapped is None:
        return host
    high, low = divmod(int(address.ipv4_mapped), 1 << 16)
    return f"[::ffff:{high:x}:{low:x}]"  # some versions of Python would write it with dots


def _to_ascii(host: str) -> str:
    """The host name in IDNA 2003, for names that UTS 46 encodes in the same way. Raises ValueError for others."""
    if _DEVIATIONS.isdisjoint(host) and not any(map(stringprep.in_table_a1, host)):
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    raise ValueError("write the host name as the browser sends it, in ASCII: xn--… (its network log shows the Origin)")
