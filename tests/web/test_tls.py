"""TLS files: what is refused before anything is opened, and SIGHUP, which loads them anew."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as to

from broker.errors import SettingsError
from broker.server.tls import client_context, server_context
from broker.settings import Settings
from tests.support.operators import broker, stderr_of
from tests.support.postgres import a_database
from tests.support.servers import BOUND_S, ServerProcess, open_stream, wait_for
from tests.support.workers import WORKERS, workers

SOURCES = {"tls_certificate": "BROKER_TLS_CERTIFICATE", "tls_key": "broker.toml, line 3"}
CERTIFICATE = "tls_certificate (BROKER_TLS_CERTIFICATE): "
KEY = "tls_key (broker.toml, line 3): "


class Files:
    """Certificates, keys, and what people give in their place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.issue("certificate.pem", "key.pem")
        self.issue("other.pem", "other-key.pem")
        self.issue("ec.pem", "ec-key.pem", trustme.KeyType.ECDSA)
        certificate, key = (folder / "certificate.pem").read_bytes(), (folder / "key.pem").read_bytes()
        loaded = to.load_pem_private_key(key, None)
        pem, traditional = to.Encoding.PEM, to.PrivateFormat.TraditionalOpenSSL
        secret = to.BestAvailableEncryption(b"secret")
        made = {
            "encrypted.pem": loaded.private_bytes(pem, to.PrivateFormat.PKCS8, secret),
            "encrypted-old.pem": loaded.private_bytes(pem, traditional, secret),
            "key.der": loaded.private_bytes(to.Encoding.DER, to.PrivateFormat.PKCS8, to.NoEncryption()),
            "certificate.der": ssl.PEM_cert_to_DER_cert(certificate.decode()),
            "public.pem": loaded.public_key().public_bytes(pem, to.PublicFormat.SubjectPublicKeyInfo),
            "empty.pem": b"\n",
            "note.txt": b"the certificate is in the safe\n",
            "damaged.pem": certificate[:200] + b"AAAA" + certificate[210:],
            "damaged-key.pem": key[:200] + b"AAAA" + key[210:],
            "secret.pem": key,
            "one.pem": b"# \xfc\n" + key + certificate,
            "crlf.pem": certificate.replace(b"\n", b"\r\n"),
        }
        for name, content in made.items():
            (folder / name).write_bytes(content)

    def issue(self, certificate: str, key: str, kind: trustme.KeyType = trustme.KeyType.RSA) -> None:
        issued = self.authority.issue_cert("127.0.0.1", key_type=kind)
        issued.private_key_pem.write_to_path(self.folder / key)
        issued.cert_chain_pems[0].write_to_path(self.folder / certificate)

    def settings(self, certificate: str, key: str) -> Settings:
        return Settings(tls_certificate=self.folder / certificate, tls_key=self.folder / key, sources=SOURCES)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(
    ("certificate", "key"),
    [("certificate.pem", "key.pem"), ("one.pem", "one.pem"), ("ec.pem", "ec-key.pem"), ("crlf.pem", "key.pem")],
)
def test_a_pair_is_loaded(files: Files, certificate: str, key: str) -> None:
    assert isinstance(server_context(files.settings(certificate, key)), ssl.SSLContext)


def test_without_files_there_is_no_tls() -> None:
    assert server_context(Settings()) is None


@pytest.mark.parametrize(
    ("certificate", "key", "setting", "says"),
    [
        ("none.pem", "key.pem", CERTIFICATE, "none.pem is not there; give"),
        ("certificate.pem", "none.pem", KEY, "none.pem is not there; give"),
        (".", "key.pem", CERTIFICATE, "is a folder; give"),
        ("certificate.pem", ".", KEY, "is a folder; give"),
        ("key.pem/x", "key.pem", CERTIFICATE, "cannot be read: Not a directory"),
        ("certificate.der", "key.pem", CERTIFICATE, "openssl x509 -inform DER"),
        ("certificate.pem", "key.der", KEY, "openssl pkey -inform DER"),
        ("key.pem", "certificate.pem", CERTIFICATE, "has the key, and tls_key (broker.toml, line 3): "),
        ("certificate.pem", "other-key.pem", KEY, "does not belong to tls_certificate"),
        ("certificate.pem", "ec-key.pem", KEY, "does not belong to tls_certificate"),
        ("certificate.pem", "encrypted.pem", KEY, "is encrypted, and nobody can type"),
        ("certificate.pem", "encrypted-old.pem", KEY, "is encrypted, and nobody can type"),
        ("key.pem", "key.pem", CERTIFICATE, "PRIVATE KEY, and no certificate"),
        ("certificate.pem", "certificate.pem", KEY, "has CERTIFICATE, and no private key"),
        ("certificate.pem", "public.pem", KEY, "has PUBLIC KEY, and no private key"),
        ("empty.pem", "key.pem", CERTIFICATE, "is empty"),
        ("note.txt", "key.pem", CERTIFICATE, "is not a PEM file; give one with a certificate"),
        ("certificate.pem", "note.txt", KEY, "is not a PEM file; give one with a private key"),
        ("damaged.pem", "key.pem", CERTIFICATE, "has a certificate that is damaged"),
        ("certificate.pem", "damaged-key.pem", KEY, "is damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_setting_and_what_to_do(
    files: Files, certificate: str, key: str, setting: str, says: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        server_context(files.settings(certificate, key))
    said = refused.value.detail
    assert said.startswith(f"{setting}{files.folder}")
    assert says in said


def test_a_file_of_somebody_else_is_named(files: Files) -> None:
    (files.folder / "secret.pem").chmod(0)
    root = os.geteuid() == 0  # who reads everything
    if root:
        os.seteuid(65_534)
    try:
        with pytest.raises(SettingsError, match="cannot be read by this user"):
            server_context(files.settings("certificate.pem", "secret.pem"))
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.pem", "is not there"), (".", "is a folder"), ("certificate.der", "openssl x509 -inform DER"),
        ("key.pem", "no certificate"), ("note.txt", "is not a PEM file"), ("damaged.pem", "is damaged"),
    ],
)  # fmt: skip
def test_a_file_of_authorities_that_cannot_be_used_is_named(files: Files, name: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        client_context(files.folder / name, "BROKER_CA")
    assert refused.value.detail.startswith(f"BROKER_CA: {files.folder}")
    assert says in refused.value.detail


def test_files_are_checked_before_the_store_is_opened_and_nobody_is_asked(files: Files, tmp_path: Path) -> None:
    given = (
        "--set", f"tls_certificate={files.folder}/certificate.pem", "--set", f"tls_key={files.folder}/encrypted.pem",
    )  # fmt: skip
    said = stderr_of(broker("serve", "--port", 0, "--data", tmp_path / "data", *given, stdin=b""), 1)
    assert "tls_key (argument): " in said
    assert "pass phrase:" not in said
    assert not (tmp_path / "data").exists()
    workers = stderr_of(broker("serve", "--database", "postgresql://nowhere.invalid/x", "--workers", 2, *given), 1)
    assert "tls_key (argument): " in workers
    assert "nowhere" not in workers


def served(server: ServerProcess) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=BOUND_S) as sock,
        context.wrap_socket(sock) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def in_file(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def wrapped(sock: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def test_a_hang_up_loads_a_new_certificate_and_leaves_streams_open(tmp_path: Path) -> None:
    files = Files(tmp_path)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    pair: dict[str, Any] = {"tls_certificate": certificate, "tls_key": key}
    with ServerProcess(tmp_path, scheme="https", **pair) as server:
        reader = open_stream(server, wrap=wrapped)
        reader.wait("$ready")
        old = in_file(certificate)
        assert served(server) == old

        certificate.write_text("not yet")
        server.process.send_signal(signal.SIGHUP)
        said = server.wait_for_log("SIGHUP: tls_certificate (argument): ")
        assert "ERROR" in said
        assert "the certificate that was loaded before stays in use" in said
        assert served(server) == old

        files.issue("certificate.pem", "key.pem", trustme.KeyType.ECDSA)  # of another kind, as of late from certbot
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("SIGHUP: new connections get the certificate in")
        assert served(server) == in_file(certificate) != old

        with server.client("ada") as client:
            client.post("/insert", json={"event": "e", "data": 1}).raise_for_status()
        reader.wait("e")
        reader.close()


def test_a_hang_up_of_the_supervisor_reaches_every_worker(tmp_path: Path, postgres: str) -> None:
    files = Files(tmp_path)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    pair: dict[str, Any] = {"tls_certificate": certificate, "tls_key": key}
    with ServerProcess(tmp_path, scheme="https", database=a_database(postgres), workers=WORKERS, **pair) as server:
        before = workers(server)
        files.issue("certificate.pem", "key.pem")
        server.process.send_signal(signal.SIGHUP)
        for number in range(1, WORKERS + 1):
            server.wait_for_log(f"worker {number}: SIGHUP: new connections get")
        assert {served(server) for _ in range(10)} == {in_file(certificate)}
        os.kill(before[0], signal.SIGHUP)
        wait_for(lambda: sum("SIGHUP: new connections get" in line for line in server.log) == WORKERS + 1)
        assert workers(server) == before


def test_a_pipe_is_refused_for_it_can_be_read_only_once(files: Files) -> None:
    pipe = files.folder / "pipe.pem"
    os.mkfifo(pipe)
    with pytest.raises(SettingsError, match="is a pipe"):
        server_context(files.settings("certificate.pem", "pipe.pem"))
