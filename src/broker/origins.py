"""Origins of web pages (RFC 6454), in the form in which browsers send them."""

from __future__ import annotations

import ipaddress
import re
import stringprep

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "http://localhost:3000"
# The standard of 2003, which Python has, and that of browsers make different names of these: ß, its capital, the final
# sigma, and the two joiners, which nobody sees.
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def parse_origin(text: str) -> str:
    """The origin as a browser sends it, or ``*``. Raises ValueError with a sentence that says what to write."""
    if text == "*":
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
    if scheme == "file" and not rest:  # some web views of phones send it
        return "file://"
    host, port = _host_and_port(rest)
    host = _host(host)
    if port is None or port == _DEFAULT_PORTS.get(scheme):  # browsers leave it out
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _check_characters(text: str) -> None:
    if text.lower() == "null":
        raise ValueError(
            "pages from the disk and in sandboxed frames say null, whosever they are; "
            f"serve the page over http, and give the origin of that, such as {_EXAMPLE}"
        )
    if text.startswith("[") or text.count("]") > text.count("["):
        raise ValueError("a list is written without brackets and quotation marks: origins with commas between them")
    if not set("\"'`\u2018\u2019\u201c\u201d").isdisjoint(text):
        raise ValueError("it has quotation marks; leave them out (the env file of a container keeps them)")
    if "*" in text:
        raise ValueError("* stands for every origin when alone, and for nothing within one; give each origin by itself")
    if re.search(r"[\s\x00-\x1f\x7f-\x9f]", text):
        raise ValueError("there is a blank within; write scheme://host:port, and commas between several")


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":") if re.search(r":[^\]]*$", text) else (text, "", "")
    if not colon:
        return host, None
    if not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= 65_535):
        raise ValueError(f"behind the last colon stands no port; write 1 to 65535, as in {_EXAMPLE}, or no colon")
    return host, int(port)


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return f"[{_version_6(host[1:-1])}]"
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets: http://[::1]:3000")
    if not host.isascii():
        host = _to_ascii(host)
    host = host.lower()
    if not _HOST.fullmatch(host) or ".." in host or host.startswith("."):
        raise ValueError(f"it has no host name that a browser would send; write scheme://host:port, such as {_EXAMPLE}")
    last = host.removesuffix(".").rpartition(".")[2]
    if last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):  # browsers take it for an IPv4 address, in any notation
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("that is no IPv4 address as browsers send it; write four numbers, 127.0.0.1") from None
    return host


def _version_6(text: str) -> str:
    try:
        found = ipaddress.IPv6Address(text)
        if found.scope_id is not None:
            raise ValueError
    except ValueError:
        raise ValueError("in the brackets stands no IPv6 address; write it as in http://[::1]:3000") from None
    if found.ipv4_mapped is None:
        return str(found)
    high, low = divmod(int(found.ipv4_mapped), 1 << 16)
    return f"::ffff:{high:x}:{low:x}"  # Python writes it now this way, now with dots


def _to_ascii(host: str) -> str:
    """By the standard of 2003, where the one that browsers follow says the same. Raises ValueError."""
    if _DEVIATIONS.isdisjoint(host) and not any(map(stringprep.in_table_a1, host)):
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    raise ValueError("write the host name as the browser sends it, in ASCII: xn--… (its network log shows the Origin)")
