from __future__ import annotations

import pytest

from broker.errors import SettingsError
from broker.origins import LOCAL_ORIGINS, origins_matcher, parse_origin
from broker.settings import Settings


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("*", "*"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTP://LocalHost:3000", "http://localhost:3000"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:0443", "https://app.example"),
        ("https://m\u00fcnchen.example", "https://xn--mnchen-3ya.example"),
        ("https://M\u00dcNCHEN.example", "https://xn--mnchen-3ya.example"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("https://\u65e5\u672c\u3002example", "https://xn--wgv71a.example"),
        ("http://under_score.example.", "http://under_score.example."),
        ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0::1]", "http://[::1]"),
        ("http://[::ffff:192.0.2.1]", "http://[::ffff:c000:201]"),
        ("https://[2001:DB8::A]:443", "https://[2001:db8::a]"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("ionic://localhost:80", "ionic://localhost:80"),
        ("file://", "file://"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(given: str, sent: str) -> None:
    assert parse_origin(given) == sent
    assert parse_origin(sent) == sent


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ('"http://localhost:3000"', "quotation marks; leave them out"),
        ("\u201chttp://localhost:3000\u201d", "quotation marks; leave them out"),
        ('["http://a:1"', "without brackets"),
        ("http://a:1]", "without brackets"),
        ("https://*.example.com", "give each origin by itself"),
        ("https://localhost:*", "give each origin by itself"),
        ("http://a b", "a blank within"),
        ("http://a\thttp://b", "a blank within"),
        ("http://ada:lovelace@a", "no part with @, a user name or password"),
        ("http://a/", "leave out the slash at the end: http://a"),
        ("http://a:1/b", "no path"),
        ("http:///", "no path"),
        ("http://a?b", "no part with ?, a query"),
        ("http://a#b", "no part with #, a fragment"),
        ("http://a\\b", "no part with \\, a backslash"),
        ("http://a:", "no port"),
        ("http://a:0", "no port"),
        ("http://a:65536", "no port"),
        ("http://a:00006553599", "no port"),
        ("http://a:x", "no port"),
        ("http://a:\u0663", "no port"),
        ("null", "serve the page over http"),
        ("NULL", "serve the page over http"),
        ("localhost:3000", "does not begin with a scheme"),
        ("://a", "does not begin with a scheme"),
        ("1http://a", "does not begin with a scheme"),
        ("", "does not begin with a scheme"),
        ("http://", "no host name"),
        ("http://a..b", "no host name"),
        ("http://a%20b", "no host name"),
        ("http://::1:3000", "stands in brackets"),
        ("http://[::g]", "no IPv6 address"),
        ("http://[fe80::1%25eth0]", "no IPv6 address"),
        ("http://127.1", "no IPv4 address"),
        ("http://0x7f000001", "no IPv4 address"),
        ("https://stra\u00dfe.example", "xn--"),
        ("https://STRA\u1e9eE.example", "xn--"),
        ("https://\u03b2\u03cc\u03bb\u03bf\u03c2.example", "xn--"),
        ("https://a\u200db.example", "xn--"),
        ("https://a\u200cb.example", "xn--"),
        ("https://\U0001f980.example", "xn--"),
        ("https://" + "\u00fc" * 70 + ".example", "xn--"),
    ],
)
def test_an_origin_that_could_never_match_is_refused_with_what_to_write(given: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as refused:
        parse_origin(given)
    assert says in str(refused.value)
    assert "lovelace" not in str(refused.value)


def test_settings_keep_each_origin_once_in_its_normal_form() -> None:
    origins = Settings(origin=("HTTPS://A.example:443", "https://a.example", "http://[::0:1]")).origin
    assert origins == ("https://a.example", "http://[::1]")
    with pytest.raises(SettingsError, match=r"origin \(argument\): 'http://a/': leave out the slash"):
        Settings(origin=("http://b", "http://a/"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_every_port_of_this_machine_can_be_allowed(host: str) -> None:
    assert Settings(origin=LOCAL_ORIGINS).origin == LOCAL_ORIGINS
    matches = origins_matcher(("https://a.example", f"http://{host}:*"))
    assert all(map(matches, ("https://a.example", f"http://{host}", f"http://{host}:5173", f"http://{host}:65535")))
    others = (f"https://{host}:5173", f"http://{host}.example:5173", f"http://{host}:1.example", f"http://{host}:")
    assert not any(map(matches, (*others, "http://[::1]:5173", "https://a.example:8443", "null", "")))
