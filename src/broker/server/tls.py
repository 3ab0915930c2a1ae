"""Loads certificates and keys from PEM files, after checks whose messages say which file is wrong, and why."""

from __future__ import annotations

import re
import ssl
import stat
from pathlib import Path

from broker.errors import SettingsError
from broker.settings import Settings

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
# NO_CERTIFICATE_ASSIGNED: the key and the certificate are of different types.
_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_CERTIFICATES = {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context of the server, loaded from the files as they are now, or None if TLS is off.

    Raises SettingsError."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    certificate = f"{settings.named('tls_certificate')}: {settings.tls_certificate}"
    key = f"{settings.named('tls_key')}: {settings.tls_key}"
    content = _read(certificate, settings.tls_certificate)
    key_content = _read(key, settings.tls_key)
    swapped = not _certificates(content) and _certificates(key_content) and not _keys(key_content)
    if swapped and _keys(content):
        raise SettingsError(f"{certificate} has the key, and {key} the certificate; exchange the two")
    _check_certificate(certificate, content)
    _check_key(key, key_content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, _no_pass_phrase)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            raise SettingsError(f"{key} does not belong to {certificate}; give the key that it was made with") from None
        if error.reason and error.reason != "PEM_LIB":  # such as a key that is too short
            reason = error.reason.lower().replace("_", " ")
            raise SettingsError(f"{certificate} and its key are refused by OpenSSL: {reason}") from None
        raise SettingsError(
            f"{key} is damaged, or of a type that OpenSSL does not support; make or copy it again"
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{certificate} and its key cannot be loaded: {error}") from None
    return context


def client_context(ca: Path | None, source: str) -> ssl.SSLContext:
    """Returns the TLS context with which a client verifies a server. Raises SettingsError.

    The trusted authorities are those in the file ``ca``, or else those of the system. ``source`` is the name of the
    setting or option that gave the file, for messages."""
    if ca is None:
        return ssl.create_default_context()
    name = f"{source}: {ca}"
    content = _read(name, ca)
    _check_certificate(name, content)
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name} cannot be loaded: {error}") from None


def _read(name: str, file: Path) -> bytes:
    try:
        if stat.S_ISFIFO(file.stat().st_mode):  # such as <(...) in a shell; its content can be read only once
            raise SettingsError(f"{name} is a pipe, and Broker reads it more than once; write its content to a file")
        return file.read_bytes()
    except FileNotFoundError:
        raise SettingsError(f"{name} is not there; give the name of a PEM file") from None
    except IsADirectoryError:
        raise SettingsError(f"{name} is a folder; give the name of the PEM file in it") from None
    except PermissionError:
        raise SettingsError(f"{name} cannot be read by this user; let the user that Broker runs as read it") from None
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}") from None


def _labels(content: bytes) -> set[str]:
    return {label.decode() for label in _LABEL.findall(content)}


def _certificates(content: bytes) -> bool:
    return not _CERTIFICATES.isdisjoint(_labels(content))


def _keys(content: bytes) -> bool:
    return any(label.endswith("PRIVATE KEY") for label in _labels(content))


def _check_certificate(name: str, content: bytes) -> None:
    if not _certificates(content):
        raise SettingsError(f"{name} {_other(content, 'a certificate', 'x509')}")
    first = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", content, re.DOTALL)
    # The certificate is in another format than this check can read, such as OpenSSL's own. OpenSSL itself can load it.
    if first is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=first[0].decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise SettingsError(f"{name} has a certificate that is damaged; make or copy it again") from None


def _check_key(name: str, content: bytes) -> None:
    if not _keys(content):
        raise SettingsError(f"{name} {_other(content, 'a private key', 'pkey')}")
    if "ENCRYPTED PRIVATE KEY" in _labels(content) or b"Proc-Type: 4,ENCRYPTED" in content:
        raise SettingsError(
            f"{name} is encrypted, and nobody can type its pass phrase when Broker starts; decrypt it with "
            "openssl pkey -in KEY -out NEW, and let only the user that Broker runs as read the new file"
        )


def _other(content: bytes, wanted: str, command: str) -> str:
    """Describes what a file contains instead of the certificate or key that is wanted."""
    if labels := _labels(content):
        return f"has {' and '.join(sorted(labels))}, and no {wanted.removeprefix('a ')}; give the file that has it"
    if not content.strip():
        return f"is empty; give the PEM file with {wanted}"
    if content.startswith(b"\x30"):
        return f"is not a PEM file; if it is DER, convert it: openssl {command} -inform DER -in FILE -out NEW"
    return f"is not a PEM file; give one with {wanted}"


def _no_pass_phrase() -> str:
    """Prevents OpenSSL from asking for a pass phrase on the terminal: a service has no terminal."""
    raise ValueError("the key is encrypted")
