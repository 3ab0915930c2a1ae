from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.settings import TABLE, Settings, read_settings


def refusal(
    arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None, file: Path | None = None
) -> str:
    with pytest.raises(SettingsError) as refused:
        read_settings(arguments or {}, environment or {}, file)
    return refused.value.detail


def warnings(caplog: pytest.LogCaptureFixture, environment: Mapping[str, str], **arguments: object) -> list[str]:
    """What the log says of these variables."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "broker.settings"):
        read_settings(arguments, environment)
    return caplog.messages


def test_every_setting_says_its_unit_and_what_and_why() -> None:
    for each in TABLE:
        for column in ("unit", "what", "why"):
            assert each.metadata[column], f"{each.name}: {column}"


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
        ("port", "x"), ("port", "8080.5"), ("port", 80.5), ("port", -1), ("port", 65_536), ("port", True),
        ("retry_ms", 0), ("insert_queue_max", "-5"), ("body_bytes_max", [1]), ("heartbeat_s", 0), ("heartbeat_s", "-1"),
        ("heartbeat_s", "nan"), ("heartbeat_s", "inf"), ("signup", "maybe"), ("signup", 2), ("origin", 5), ("data", 5),
        ("origin", "localhost:3000"), ("origin", "http://localhost/"), ("origin", "http://localhost/a"),
        ("peer_timeout_s", "99999999999"), ("trusted_proxies", "banana"), ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.1/8"), ("bodies_bytes_max", 1_000),
        ("token_secret", "short"), ("signups_per_address", "0/minute"), ("tls_certificate", "cert.pem"),
        ("tls_key", "key.pem"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_and_its_setting_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({name: value}, {})


def test_an_unknown_setting_is_named_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("prt = 1\n")
    assert refusal({"prt": 1}) == (
        "unknown settings: prt (argument; did you mean port?); docs/settings.md has them all"
    )
    assert f"unknown settings: prt ({file}, line 1; did you mean port?)" in refusal(file=file)
    assert "unknown settings: colour (argument); docs" in refusal({"colour": "blue"})


@pytest.mark.parametrize("content", [b"port = ", b"\xff", b"port = " + b"[" * 10_000, None])
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broker.toml"
    if content is not None:
        file.write_bytes(content)
    assert refusal(file=file).startswith(f"settings file {file} (argument): ")
    with pytest.raises(SettingsError, match=r"settings file .*broker\.toml \(BROKER_CONFIG\): "):
        read_settings({}, {}, file, "BROKER_CONFIG")


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
    with pytest.raises(SettingsError, match=r"database \(.*\): empty"):
        read_settings(arguments, {"BROKER_DATABASE": ""})


# A value of each setting that is refused, wherever it is refused.
BAD: dict[str, str] = {
    "host": "http://x", "port": "x", "data": "mysql://x/y", "database": "mysql://x/y", "workers": "2", "origin": "x",
    "allow_header": "a b", "tls_certificate": "x", "tls_key": "x", "token_secret": "short", "metrics_token": "a\nb",
    "trusted_proxies": "x", "signup": "x", "events_public": "x", "static": "mysql://x/y",
    "rules": "mysql://x/y", "rules_over_http": "x", "rules_may_widen": "x",
    "open": "x", "console": "x", "console_name": "x" * 65,
    "event_names_per_user_max": "-1", "snapshot_bytes_per_user_max": "-1",
} | {each.name: "often" for each in TABLE if each.metadata["unit"] == "rates"}  # fmt: skip


@pytest.mark.parametrize("name", [each.name for each in TABLE])
def test_a_refusal_says_where_the_value_came_from(name: str, tmp_path: Path) -> None:
    value = BAD.get(name, "0")  # all the others are numbers
    file = tmp_path / "broker.toml"
    file.write_text(f"# Ours.\n\n'{name}' = {json.dumps(value)}\n")
    variable = f"BROKER_{name.upper()}"
    assert f"{name} (argument)" in refusal({name: value})
    assert f"{name} ({variable})" in refusal({}, {variable: value})
    assert f"{name} ({file}, line 3)" in refusal({}, {}, file)
    with pytest.raises(SettingsError) as refused:
        Settings(**{name: value})  # type: ignore[arg-type] # on purpose
    assert f"{name} (argument)" in refused.value.detail


def test_a_cross_check_says_where_both_values_came_from() -> None:
    said = refusal({"batch_records_max": 20_000}, {"BROKER_INSERT_QUEUE_MAX": "15000"})
    assert "insert_queue_max (BROKER_INSERT_QUEUE_MAX) is less than batch_records_max (argument)" in said
    assert "batch_records_max (argument)" in refusal({"batch_records_max": 20_000})
    assert "insert_queue_max (default)" in refusal({"batch_records_max": 20_000})
    said = refusal({"token_ttl_s": 2_592_001})
    assert "session_max_s (default) is less than token_ttl_s (argument), 2592000 and 2592001" in said
    assert Settings(token_ttl_s=2_592_000).session_max_s == 2_592_000


def test_the_line_of_a_setting_is_where_its_statement_begins(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('# x\norigin = [\n  "http://a",\n]\n\ndata = """\nport = 1\n"""\r\n"port"\t= "x" # the port\n')
    assert f"port ({file}, line 9): 'x': expected a whole number, port" in refusal(file=file)


@pytest.mark.parametrize("name", [each.name for each in TABLE if not isinstance(each.default, tuple)])
def test_an_empty_variable_is_not_set_and_an_empty_argument_is_refused(name: str) -> None:
    assert f"{name} (argument): empty" in refusal({name: " "})
    if name != "database":
        assert getattr(read_settings({}, {f"BROKER_{name.upper()}": ""}), name) == getattr(Settings(), name)
        assert getattr(read_settings({}, {f"BROKER_{name.upper()}": " \n"}), name) == getattr(Settings(), name)


def test_an_empty_port_is_not_set() -> None:
    assert read_settings({}, {"PORT": ""}).port == 8080
    assert read_settings({}, {"PORT": "5", "BROKER_PORT": ""}).port == 5


def test_the_empty_list_is_written_none() -> None:
    assert read_settings({}, {"BROKER_TRUSTED_PROXIES": ""}).trusted_proxies == ("127.0.0.1", "::1")
    assert read_settings({}, {"BROKER_TRUSTED_PROXIES": "none"}).trusted_proxies == ()
    assert read_settings({"trusted_proxies": ""}, {}).trusted_proxies == ()


def test_white_space_around_a_value_does_not_count(tmp_path: Path) -> None:
    given = {"METRICS_TOKEN": "sesame\n", "DATABASE": "postgresql://h/d\r\n", "HOST": " ::1\t", "PORT": "5\n",
             "SIGNUP": "no\r\n", "DATA": "/a folder \n", "ORIGIN": "http://a\n", "TLS_KEY": "k\n",
             "TLS_CERTIFICATE": "c\r\n", "SIGNUPS_PER_ADDRESS": "5/minute\n"}  # fmt: skip
    settings = read_settings({}, {f"BROKER_{name}": value for name, value in given.items()})
    assert (settings.metrics_token, settings.database, settings.host) == ("sesame", "postgresql://h/d", "::1")
    assert (settings.port, settings.signup, settings.origin) == (5, False, ("http://a",))
    assert (settings.data, settings.tls_key) == (Path("/a folder "), Path("k"))
    assert Settings(metrics_token=" sesame\n").metrics_token == "sesame"
    assert Settings(data=Path("x\n")).data == Path("x")


@pytest.mark.parametrize("name", [each.name for each in TABLE if isinstance(each.default, str | Path | None)])
def test_a_value_in_quotation_marks_is_refused(name: str) -> None:
    """As the env file of a container has them: a folder, or a token, with the marks in its name."""
    said = refusal({}, {f"BROKER_{name.upper()}": '"postgresql://ada:lovelace@h/d and some more"'})
    assert f"{name} (BROKER_{name.upper()}): " in said
    assert "it stands in quotation marks; leave them out" in said
    assert "lovelace" not in said


@pytest.mark.parametrize("name", [each.name for each in TABLE])
@pytest.mark.parametrize("value", ["http://ada:lovelace@host", "ada:love/lace@host:80", ["ada:lovelace@host"]])
def test_the_password_of_a_url_is_never_shown(name: str, value: Any) -> None:
    with contextlib.suppress(SettingsError):
        read_settings({name: value}, {})  # it may be taken
        return
    assert "lace" not in refusal({name: value})


@pytest.mark.parametrize("variable", ["BROKER_PORT", "PORT"])
def test_an_address_that_kubernetes_sets_is_no_port(variable: str, caplog: pytest.LogCaptureFixture) -> None:
    environment = {variable: "tcp://10.96.0.12:8080"}
    (warning,) = warnings(caplog, environment)
    assert warning.startswith(f"{variable} is an address and no port: Kubernetes sets it")
    assert "10.96" not in warning
    assert read_settings({}, environment).port == 8080
    assert read_settings({}, {"PORT": "5"} | environment).port == (5 if variable == "BROKER_PORT" else 8080)
    assert "expected a whole number" in refusal({"port": "tcp://10.96.0.12:8080"})


def test_a_variable_that_is_no_setting_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"BROKER_SIGN_UP": "secret value", "BROKER_HTTP_PORT": "80", "BROKER_ZZZ": "1", "BROKERAGE": "1"}
    assert warnings(caplog, environment) == [
        "ignored, as there are no such settings: BROKER_HTTP_PORT, "
        "BROKER_SIGN_UP (did you mean BROKER_SIGNUP?), BROKER_ZZZ; docs/settings.md has them all"
    ]


def test_what_kubernetes_sets_and_what_the_clients_read_is_not_strange(caplog: pytest.LogCaptureFixture) -> None:
    environment = {
        "BROKER_SERVICE_HOST": "10.96.0.12", "BROKER_SERVICE_PORT": "8080", "BROKER_SERVICE_PORT_HTTP": "8080",
        "BROKER_PORT_8080_TCP": "tcp://10.96.0.12:8080", "BROKER_PORT_8080_TCP_PROTO": "tcp",
        "BROKER_PORT_8080_TCP_PORT": "8080", "BROKER_PORT_8080_TCP_ADDR": "10.96.0.12",
        "BROKER_X_PORT": "tcp://10.96.0.13:80", "BROKER_X_SERVICE_HOST": "10.96.0.13", "BROKER_X_SERVICE_PORT": "80",
        "BROKER_X_PORT_80_TCP": "tcp://10.96.0.13:80", "BROKER_X_PORT_80_TCP_ADDR": "10.96.0.13",
        "BROKER_URL": "http://x", "BROKER_TOKEN": "x", "BROKER_TOKEN_FILE": "x", "BROKER_CA": "x",
        "BROKER_PASSWORD": "x", "BROKER_CONFIG": "x", "BROKER_VERBOSE": "1", "BROKER_NOTHING": "",
        "BROKER_HEARTBEAT_S": "5", "DATABASE_URL": "", "HOME": "/",
    }  # fmt: skip
    assert warnings(caplog, environment) == []


def test_database_url_is_named_in_the_log_and_never_used(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"DATABASE_URL": "postgresql://ada:lovelace@h/d"}
    (warning,) = warnings(caplog, environment)
    assert warning.startswith("DATABASE_URL is set and ignored")
    assert "BROKER_DATABASE is Broker's" in warning
    assert "lovelace" not in warning
    assert read_settings({}, environment).database == ""
    assert warnings(caplog, environment | {"BROKER_DATABASE": "postgresql://h/d"}) == []
    assert warnings(caplog, environment, database="postgresql://h/d") == []


def test_a_settings_file_is_utf8_in_every_locale_and_may_begin_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_bytes(b"\xef\xbb\xbf# \xc3\xbc\r\ndata = '/\xc3\xbc'\r\n")
    assert read_settings({}, {}, file).data == Path("/ü")
    file.write_bytes(b"port = 1\n# \xfc\n")
    assert "line 2 is not UTF-8; save the file in that encoding" in refusal(file=file)


@pytest.mark.parametrize(
    "line", ["origin = [1]", "[heartbeat_s]", "port = [1]", "host = {a = 1}", "data = 5", "port = 1979-05-27",
             "signup = [true]", "trusted_proxies = {}", "[[data]]", "token_secret = [1]", "backlog = 2147483648",
             "replay_max = 9223372036854775808", "port = inf"],
)  # fmt: skip
def test_a_value_of_another_kind_is_a_sentence(line: str, tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f"{line}\n")
    assert f"({file}, line 1): " in refusal(file=file)


@pytest.mark.parametrize("value", ['["10.0.0.1"]', '"10.0.0.1","::1"', "'10.0.0.1'", "[::1]", '["10.0.0.1"'])
@pytest.mark.parametrize("name", [each.name for each in TABLE if isinstance(each.default, tuple)])
def test_a_list_with_brackets_or_quotation_marks_is_refused(name: str, value: str) -> None:
    said = refusal({}, {f"BROKER_{name.upper()}": value})
    assert f"{name} (BROKER_{name.upper()}): " in said
    assert "quotation marks" in said


def test_a_list_of_arguments_may_have_commas_as_well() -> None:
    given = ("http://a, http://b", "http://c")
    assert read_settings({"origin": given}, {}).origin == ("http://a", "http://b", "http://c")


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("http://127.0.0.1", "without http:// and path"), ("127.0.0.1:80", "the port is a setting of its own"),
        ("[::1]:80", "the port is a setting of its own"), ("*", "give 0.0.0.0 for all"),
    ],
)  # fmt: skip
def test_a_host_is_an_address_or_a_name_alone(host: str, says: str) -> None:
    assert f"host (argument): {host!r}: " in (said := refusal({"host": host}))
    assert says in said


def test_an_ipv6_host_may_stand_in_brackets() -> None:
    assert read_settings({"host": "[::1]"}, {}).host == "::1"


@pytest.mark.parametrize(
    ("header", "says"),
    [("*", "by its name"), ("a b", "no name of a header"), ("a:", "no name"), ("ü", "no name"), ("a;b", "no name")],
)
def test_a_header_that_pages_may_send_has_a_name(header: str, says: str) -> None:
    assert says in refusal({"allow_header": ["X-Requested-With", header]})


def test_headers_that_pages_may_send_are_a_list() -> None:
    assert read_settings({"allow_header": "X-A, baggage"}, {}).allow_header == ("X-A", "baggage")
