from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import Settings, read_settings


def test_every_setting_has_a_unit_and_a_reason() -> None:
    for each in fields(Settings):
        assert each.metadata["unit"], each.name
        assert each.metadata["reason"], each.name


def test_arguments_go_before_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('port = 1\nhost = "file"\nretry_ms = 7\nheartbeat_s = 2\norigin = ["http://a", "http://b"]\n')
    settings = read_settings({"port": 3, "host": None}, {"BROKER_PORT": "2", "BROKER_HOST": "environment"}, file)
    assert (settings.port, settings.host, settings.retry_ms) == (3, "environment", 7)
    assert settings.heartbeat_s == 2.0
    assert settings.origin == ("http://a", "http://b")


def test_port_is_read_too_and_brokers_own_goes_first() -> None:
    assert read_settings({}, {"PORT": "5"}).port == 5
    assert read_settings({}, {"PORT": "5", "BROKER_PORT": "6"}).port == 6


def test_values_are_read_from_text() -> None:
    texts = {"signup": "No", "events_public": "0", "origin": "http://a, http://b,", "data": "/x", "heartbeat_s": "0.5"}
    settings = read_settings({}, {f"BROKER_{name.upper()}": text for name, text in texts.items()})
    assert (settings.signup, settings.events_public) == (False, False)
    assert settings.origin == ("http://a", "http://b")
    assert settings.data == Path("/x")
    assert settings.heartbeat_s == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"), ("port", ""), ("port", "8080.5"), ("port", 80.5), ("port", -1), ("port", 65_536), ("port", True),
        ("retry_ms", 0), ("insert_queue_max", "-5"), ("body_bytes_max", [1]), ("heartbeat_s", 0), ("heartbeat_s", "-1"),
        ("heartbeat_s", "nan"), ("heartbeat_s", "inf"), ("signup", "maybe"), ("signup", 2), ("origin", 5), ("data", 5),
        ("origin", "localhost:3000"), ("origin", "http://localhost/"), ("origin", "http://localhost/a"),
        ("peer_timeout_s", "99999999999"), ("trusted_proxies", "banana"), ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.1/8"), ("bodies_bytes_max", 1_000),
        ("token_secret", "short"), ("tls_certificate", "cert.pem"), ("tls_key", "key.pem"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_and_its_setting_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({name: value}, {})


def test_an_unknown_setting_is_named_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("prt = 1\n")
    for arguments, given in (({"prt": 1}, None), ({}, file)):
        with pytest.raises(SettingsError, match="unknown settings: prt; docs/settings"):
            read_settings(arguments, {}, given)


@pytest.mark.parametrize("content", [b"port = ", b"\xff", None])
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broker.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"settings file .*broker\.toml: "):
        read_settings({}, {}, file)


@pytest.mark.parametrize("name", ["token_secret", "metrics_token"])
def test_secrets_are_never_shown(name: str) -> None:
    assert "tell nobody" not in repr(read_settings({name: "tell nobody " * 4}, {}))
    with pytest.raises(SettingsError) as refusal:
        read_settings({name: ["tell nobody"]}, {})
    assert "tell nobody" not in refusal.value.detail


def test_any_origin_is_a_star() -> None:
    assert read_settings({"origin": ("*",)}, {}).origin == ("*",)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("::1", True), ("11.0.0.1", False), ("127.0.0.1", False), ("", False), ("unknown", False)],
)
def test_a_proxy_is_trusted_by_its_network(address: str, trusted: bool) -> None:
    settings = read_settings({"trusted_proxies": "10.0.0.0/8, ::1"}, {})
    assert settings.trusts(address) is trusted


@pytest.mark.parametrize("arguments", [{"database": ""}, {}])
def test_an_empty_database_is_refused_lest_another_log_is_served(arguments: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="database: empty"):
        read_settings(arguments, {"BROKER_DATABASE": ""})
