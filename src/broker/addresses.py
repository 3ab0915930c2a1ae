"""Internet addresses: which of them are trusted, and which count as one client."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from broker.errors import SettingsError

# What the lookups below cache is bounded by their ``maxsize``: some megabytes, however many clients there are.

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORT = re.compile(r":[0-9]*\Z")


def check_networks(setting: str, networks: tuple[str, ...]) -> None:
    """Raises SettingsError for the first text that is not a network. ``setting`` is what the message calls it."""
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(f"{setting}: {error}; give addresses, or networks: 10.0.0.0/8") from None


@lru_cache(maxsize=10_000)
def canonical(address: str) -> str:
    """The one spelling of an address: an IPv4 address that is written as IPv6 (``::ffff:192.0.2.1``) becomes IPv4.

    A text that is not an address, such as the path of a Unix socket, is returned unchanged."""
    parsed = _parse(address)
    return address if parsed is None else str(parsed)


@lru_cache(maxsize=100)  # few, because anybody may put a long text into the headers whose values are looked up here
def is_loopback(address: str) -> bool:
    """Whether the address is this machine's own."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def names_loopback(host: str, listens_on: str) -> bool:
    """Whether the header ``Host`` names this machine as only programs on it do: as ``localhost``, by a name below that
    (browsers resolve all of them to this machine), by a loopback address, or as ``listens_on``; with or without a
    port."""
    name = _PORT.sub("", host).lower().removeprefix("[").removesuffix("]")
    return name in ("localhost", listens_on.lower()) or name.endswith(".localhost") or is_loopback(name)


@lru_cache(maxsize=10_000)
def within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of the networks. Both the address and the network may be IPv4 written as IPv6."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in _network(network) for network in networks)


def spellings(networks: tuple[str, ...]) -> list[str]:
    """The networks, and those of IPv4 a second time as IPv6 (``::ffff:10.0.0.0/104``).

    They are for code that does not use ``canonical``: Uvicorn compares an address in ``X-Forwarded-For`` as the proxy
    wrote it."""
    parsed = [_network(network) for network in networks]
    mapped = [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in parsed if each.version == 4]
    return [str(each) for each in parsed] + mapped


@lru_cache(maxsize=10_000)
def client_key(address: str) -> str:
    """The key under which a client's connections and attempts are counted: its IPv4 address; or the network of 64 bits
    of its IPv6 address, because providers assign no less, and a client may use every address in it."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


def _parse(address: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a client on a Unix socket has no address
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed


def _network(text: str) -> _Network:
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network
