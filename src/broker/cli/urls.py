"""The URL of a server, as the option --url accepts it."""

from __future__ import annotations

import re
from urllib.parse import quote

from broker.origins import parse_host, split_port

_SCHEMES = ("http", "https")
_PART_MAX = 63  # RFC 1034, section 3.1


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
    authority, slash, path = rest.partition("/")
    if authority.count("[") > authority.count("]"):
        raise ValueError(f"{text[:200]!r} has a bracket too much; an IPv6 address is written http://[::1]:8080")
    try:
        host, port = split_port(authority)
        host = parse_host(host)
        if any(len(part) > _PART_MAX for part in host.split(".")):
            raise ValueError(f"it has no host name that can be looked up: a part is longer than {_PART_MAX} letters")
    except ValueError as error:
        raise ValueError(f"{text[:200]!r}: {error}") from None
    path = quote((slash + path).rstrip("/"), safe="/%:!$&'()*+,;=~")
    return f"{scheme.lower()}://{host}{'' if port is None else f':{port}'}{path}"
