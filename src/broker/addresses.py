"""Internet addresses: which of them are trusted, and which count as one client."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from broker.errors import SettingsError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_networks(setting: str, networks: tuple[str, ...]) -> None:
    """Raises SettingsError."""
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(f"{setting}: {error}; give addresses, or networks: 10.0.0.0/8") from None


@lru_cache(maxsize=10_000)
def canonical(address: str) -> str:
    """One text for one address: an IPv4 address that came as IPv6 (``::ffff:192.0.2.1``) is that IPv4 address.

    What is no address, such as a Unix socket's, stays as it is."""
    found = _parse(address)
    return address if found is None else str(found)


def is_loopback(address: str) -> bool:
    """Whether it is this machine."""
    found = _parse(address)
    return found is not None and found.is_loopback


@lru_cache(maxsize=10_000)
def within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of the networks; either may be written as IPv6."""
    found = _parse(address)
    return found is not None and any(found in _network(network) for network in networks)


def spellings(networks: tuple[str, ...]) -> list[str]:
    """The networks, those of IPv4 also as IPv6 (``::ffff:10.0.0.0/104``): for code that compares without ``canonical``,
    as Uvicorn does with what a proxy says in ``X-Forwarded-For``."""
    found = [_network(network) for network in networks]
    mapped = [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in found if each.version == 4]
    return [str(each) for each in found] + mapped


@lru_cache(maxsize=10_000)
def client_key(address: str) -> str:
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


def _network(text: str) -> _Network:
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network
