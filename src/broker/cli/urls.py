"""The URL of a server, as the option --url accepts it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, urlsplit

_SCHEMES = ("http", "https")


def parse_url(text: str) -> str:
    """The URL without a slash at its end. Raises ValueError with a sentence that shows no secret."""
    if "@" in text:
        raise ValueError("leave out user name and password; `broker login` gets a token, which says who you are")
    if "?" in text or "#" in text:
        raise ValueError("leave out what begins with ? or #; give the URL of the server alone")
    scheme, separator, rest = text.partition("://")
    if not separator:
        rest = re.sub("^https?:/*", "", text).lstrip("/")
        raise ValueError(f"{text[:200]!r} has no scheme; write http://{rest[:200]}, or https://")
    if scheme.lower() not in _SCHEMES:
        raise ValueError(f"{text[:200]!r} has the scheme {scheme[:20]}; Broker's are http and https")
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(f"{text[:200]!r} has a blank or a line break within; write http://host:port")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError(
            f"{text[:200]!r} has a bracket too much; an IPv6 address is written http://[::1]:8080"
        ) from None
    _check_port(text, parts.netloc)
    host = _host(text, host, parts.netloc)
    port = re.search(r":[0-9]+$", parts.netloc)
    path = quote(parts.path.rstrip("/"), safe="/%:!$&'()*+,;=~")
    return f"{scheme.lower()}://{host}{port[0] if port else ''}{path}"


def _check_port(text: str, netloc: str) -> None:
    found = re.search(r":([^:\]]*)$", netloc)
    if found and netloc.count(":") > 1 and not netloc.startswith("["):
        raise ValueError(f"{text[:200]!r}: an IPv6 address stands in brackets: http://[::1]:8080")
    if found and not (re.fullmatch("[0-9]{1,5}", found[1]) and 0 < int(found[1]) <= 65_535):
        raise ValueError(f"{text[:200]!r} has no port behind the colon; write 1 to 65535, as in http://127.0.0.1:8080")


def _host(text: str, host: str, netloc: str) -> str:
    """In the form in which it is looked up."""
    try:
        if netloc.startswith("["):
            if not re.fullmatch(r"\[[^\[\]]*\](:[0-9]*)?", netloc):
                raise ValueError
            return f"[{ipaddress.IPv6Address(host)}]"
        name = host.encode("idna").decode().lower()
        if not re.fullmatch(r"[a-z0-9._-]+", name):
            raise ValueError
    except ValueError:  # also UnicodeError: a part of the name is empty, or longer than 63 bytes
        raise ValueError(f"{text[:200]!r} has no host name that can be looked up; write http://host:port") from None
    return name
