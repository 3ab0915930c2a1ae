"""The sockets that connections come in by, and what a process needs for them."""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Iterator
from typing import Any

from broker.errors import SettingsError
from broker.server.admission import FILES_KEPT, file_limit
from broker.settings import Settings

logger = logging.getLogger("broker.server")

_PORTS_TRIED = 20  # a free port of one address may be in use at another

_Place = tuple[socket.AddressFamily, tuple[Any, ...]]


@contextlib.contextmanager
def listening(settings: Settings, *, shared: bool = False) -> Iterator[list[socket.socket]]:
    """What ``bind`` returns, closed in the end."""
    listeners = bind(settings, shared=shared)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def bind(settings: Settings, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that do not listen yet, one for each address of the host, all with one port. ``shared``: with others on
    this port, each of which gets its part of the connections. Raises SettingsError."""
    places = _places(settings)
    for again in reversed(range(_PORTS_TRIED)):
        try:
            return _bind_all(settings, places, shared)
        except OSError as error:
            if not (error.errno == errno.EADDRINUSE and settings.port == 0 and again):
                raise _refusal(settings, error) from None
    raise AssertionError


def _places(settings: Settings) -> list[_Place]:
    """A name may have several addresses. ``localhost`` has two (RFC 6761), whatever /etc/hosts says: some programs take
    it for 127.0.0.1, and others for ::1."""
    hosts = ("127.0.0.1", "::1") if settings.host.lower() == "localhost" else (settings.host,)
    try:
        found = [
            each
            for host in hosts
            for each in socket.getaddrinfo(
                host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
            )
        ]
    except (socket.gaierror, ValueError):  # ValueError: not even a name, such as one of 70 letters without a dot
        raise SettingsError(
            f"{settings.named('host')}: {settings.host[:100]!r} is no address, and no name that this machine knows; "
            "give 127.0.0.1 for this machine alone, or 0.0.0.0 or :: for others, too"
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_all(settings: Settings, places: list[_Place], shared: bool) -> list[socket.socket]:
    """Raises OSError if one is in use, or if there is none."""
    listeners: list[socket.socket] = []
    failed: OSError | None = None
    try:
        for family, (address, port, *more) in places:
            if listeners:
                port = listeners[0].getsockname()[1]
            try:
                listeners.append(_bind(settings, family, (address, port, *more), shared))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                failed = failed or error  # this machine has no IPv6, or none on its loopback interface
        if not listeners and failed is not None:
            raise failed
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(settings: Settings, family: socket.AddressFamily, address: tuple[Any, ...], shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # every connection has it from the listener
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.peer_timeout_s * 1000))
        if address[0] == "::":  # IPv4, too, whatever this machine's setting (net.ipv6.bindv6only) is
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(settings: Settings, error: OSError) -> SettingsError:
    host, port = settings.named("host"), settings.named("port")
    what = f"cannot listen on {settings.host} port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"{port}: {what}: another program does; stop that, or choose another --port")
    if error.errno in (errno.EACCES, errno.EPERM) and settings.port < 1024:
        return SettingsError(
            f"{port}: {what}: a port below 1024 needs a right; choose another --port, such as 8080, behind a proxy, or "
            "give the right (AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(
            f"{host}: {what}: this machine has no such address; give one of its own, 127.0.0.1 for this machine alone, "
            "or 0.0.0.0 or :: for all of its addresses"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return SettingsError(f"{host}: {what}: this machine has no such kind of addresses; give 127.0.0.1 or 0.0.0.0")
    return SettingsError(f"{host}: {what}: {error.strerror}; choose another --host or --port")


def address_of(settings: Settings, listeners: list[socket.socket]) -> str:
    """For people to open, such as ``http://127.0.0.1:8080``."""
    host, port = listeners[0].getsockname()[:2]
    if len(listeners) > 1:
        host = settings.host
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_certificate else 'http'}://{shown}:{port}"


def raise_file_limit() -> None:
    """To the hard limit: each stream is an open file, and the usual soft limit is 1,024. Raises SettingsError if even
    that lets nobody in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS says "unlimited" and means less
        logger.warning("the limit of open files stays at %d: %s", soft, error)
    if file_limit() <= FILES_KEPT:
        raise SettingsError(
            f"the limit of open files is {file_limit():.0f}: Broker needs {FILES_KEPT} for itself, and one for each "
            "connection; raise it: `ulimit -n 65536` in a shell, LimitNOFILE=65536 in systemd, "
            "--ulimit nofile=65536 with Docker"
        )
