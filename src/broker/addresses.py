"""Internet addresses: which are trusted, and which belong to one visitor."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from broker.errors import SettingsError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_networks(setting: str, networks: tuple[str, ...]) -> None:
    """Raises SettingsError."""
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(f"{setting}: {error}; give addresses, or networks: 10.0.0.0/8") from None


@lru_cache(maxsize=10_000)
def within(address: str, networks: tuple[str, ...]) -> bool:
    found = _parse(address)
    return found is not None and any(found in ipaddress.ip_network(network) for network in networks)


@lru_cache(maxsize=10_000)
def visitor(address: str) -> str:
    """What is counted as one: an IPv4 address, or a network of 64 bits of IPv6, which is the least that anybody has."""
    found = _parse(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address if found is None else str(found)


def _parse(address: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
