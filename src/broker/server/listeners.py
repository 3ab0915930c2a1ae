"""Opens the sockets on which connections arrive, and raises the limit of open files."""

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

# With port 0, the system chooses a port that is free on the first address of the host. If another address of the host
# already uses that port, the system is asked for another port. This is how often it is asked at most.
_PORTS_TRIED = 20

_Place = tuple[socket.AddressFamily, tuple[Any, ...]]


@contextlib.contextmanager
def listening(settings: Settings, *, shared: bool = False) -> Iterator[list[socket.socket]]:
    """Yields the sockets that ``bind`` returns, and closes them at the end."""
    listeners = bind(settings, shared=shared)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def bind(settings: Settings, *, shared: bool = False) -> list[socket.socket]:
    """Returns sockets that do not listen yet: one for each address of the host, all on the same port.

    With ``shared``, other processes can bind the same port, and the kernel distributes the connections among them.
    Raises SettingsError."""
    places = _places(settings)
    for again in reversed(range(_PORTS_TRIED)):
        try:
            return _bind_all(settings, places, shared)
        except OSError as error:
            if not (error.errno == errno.EADDRINUSE and settings.port == 0 and again):
                raise _refusal(settings, error) from None
    raise AssertionError


def _places(settings: Settings) -> list[_Place]:
    """Returns the addresses of the host. Raises SettingsError.

    A name may have several addresses. ``localhost`` always has two here (RFC 6761), even if /etc/hosts differs: some
    programs connect to 127.0.0.1 for it, and others to ::1."""
    hosts = ("127.0.0.1", "::1") if settings.host.lower() == "localhost" else (settings.host,)
    try:
        found = [
            each
            for host in hosts
            for each in socket.getaddrinfo(
                host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
            )
        ]
    except (socket.gaierror, ValueError):  # ValueError: not a valid name, such as 70 letters without a dot
        raise SettingsError(
            f"{settings.named('host')}: {settings.host[:100]!r} is not an address, and not a name that this machine "
            "knows; give 127.0.0.1 to serve this machine only, or 0.0.0.0 or :: to serve other machines, too"
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_all(settings: Settings, places: list[_Place], shared: bool) -> list[socket.socket]:
    """Returns a socket for each address. Addresses that this machine does not have are skipped. Raises OSError if one
    of the addresses is in use, or if this machine has none of them."""
    listeners: list[socket.socket] = []
    failed: OSError | None = None
    with contextlib.ExitStack() as on_failure:
        for family, (address, port, *more) in places:
            if listeners:
                port = listeners[0].getsockname()[1]
            try:
                listeners.append(on_failure.enter_context(_bind(settings, family, (address, port, *more), shared)))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                failed = failed or error  # for example, this machine has no IPv6, or no IPv6 on its loopback interface
        if not listeners and failed is not None:
            raise failed
        on_failure.pop_all()
    return listeners


def _bind(settings: Settings, family: socket.AddressFamily, address: tuple[Any, ...], shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # each accepted connection inherits this option
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.peer_timeout_s * 1000))
        if address[0] == "::":  # accept IPv4, too, even if net.ipv6.bindv6only is set on this machine
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
        return SettingsError(f"{port}: {what}: another program uses it; stop that program, or choose another --port")
    if error.errno in (errno.EACCES, errno.EPERM) and settings.port < 1024:
        return SettingsError(
            f"{port}: {what}: a port below 1024 needs a privilege; choose another --port, such as 8080, behind a "
            "proxy, or grant the privilege (AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(
            f"{host}: {what}: this machine does not have this address; give an address that it has, 127.0.0.1 to "
            "serve this machine only, or 0.0.0.0 or :: to listen on all of its addresses"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return SettingsError(
            f"{host}: {what}: this machine does not support this kind of address; give 127.0.0.1 or 0.0.0.0"
        )
    return SettingsError(f"{host}: {what}: {error.strerror}; choose another --host or --port")


def address_of(settings: Settings, listeners: list[socket.socket]) -> str:
    """Returns the URL under which people can open Broker, such as ``http://127.0.0.1:8080``."""
    host, port = listeners[0].getsockname()[:2]
    if len(listeners) > 1:
        host = settings.host
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_certificate else 'http'}://{shown}:{port}"


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit: each stream is an open file, and the usual soft limit is
    only 1,024. Raises SettingsError if even the hard limit leaves no file for connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS reports "unlimited", but does not allow it
        logger.warning("the limit of open files stays at %d: %s", soft, error)
    if file_limit() <= FILES_KEPT:
        raise SettingsError(
            f"the limit of open files is {file_limit():.0f}: Broker needs {FILES_KEPT} for itself, and one for each "
            "connection; raise it: `ulimit -n 65536` in a shell, LimitNOFILE=65536 in systemd, "
            "--ulimit nofile=65536 with Docker"
        )
