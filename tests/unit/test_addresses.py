from __future__ import annotations

import pytest

from broker.addresses import canonical, client_key, is_loopback, names_loopback, spellings, within
from broker.settings import Settings


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("::FFFF:7f00:1", "127.0.0.1"),
        ("0:0:0:0:0:ffff:203.0.113.9", "203.0.113.9"), ("::1", "::1"), ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"), ("", ""), ("/run/broker.sock", "/run/broker.sock"),
    ],
)  # fmt: skip
def test_one_address_has_one_spelling(address: str, expected: str) -> None:
    assert canonical(address) == canonical(expected) == expected


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("::ffff:203.0.113.9", False),
        ("203.0.113.9", False), ("2001:db8::1", False), ("", False), ("/run/broker.sock", False),
    ],
)  # fmt: skip
def test_this_machine_is_known_however_its_address_is_written(address: str, here: bool) -> None:
    assert is_loopback(address) is here


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("LOCALHOST:80", True), ("a.b.localhost", True), ("127.0.0.1:80", True), ("[::1]", True),
        ("[::1]:80", True), ("[::ffff:127.0.0.1]:80", True), ("My-Name:80", True),
        ("localhost.example", False), ("notlocalhost", False), ("0.0.0.0:80", False), ("[2001:db8::1]:80", False),
        ("203.0.113.9", False), ("other-name", False), ("localhost:80:80", False), (":80", False), ("", False),
    ],
)  # fmt: skip
def test_a_host_names_this_machine_with_or_without_a_port(host: str, here: bool) -> None:
    assert names_loopback(host, "my-name") is here


@pytest.mark.parametrize("networks", [("10.0.0.0/8",), ("::ffff:10.0.0.0/104",), ("::ffff:a00:0/104", "192.0.2.1")])
@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:a01:203"])
def test_a_network_holds_an_address_however_both_are_written(networks: tuple[str, ...], address: str) -> None:
    assert within(address, networks)
    assert not within("11.1.2.3", networks)
    assert not within("::ffff:11.1.2.3", networks)
    assert Settings(trusted_proxies=networks).trusts(address)


def test_an_address_of_ipv4_is_one_visitor_and_64_bits_of_ipv6_are() -> None:
    assert client_key("203.0.113.9") == client_key("::ffff:203.0.113.9") == "203.0.113.9"
    assert client_key("2001:db8::1") == client_key("2001:db8::2:3") != client_key("2001:db8:0:1::1")


def test_a_network_is_spelt_for_code_that_compares_texts_of_one_family() -> None:
    assert spellings(("127.0.0.1", "10.0.0.0/8", "::1")) == [
        "127.0.0.1/32", "10.0.0.0/8", "::1/128", "::ffff:127.0.0.1/128", "::ffff:10.0.0.0/104",
    ]  # fmt: skip
    assert spellings(("::ffff:10.0.0.0/104",)) == ["10.0.0.0/8", "::ffff:10.0.0.0/104"]
