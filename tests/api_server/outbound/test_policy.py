"""G3: what can be said of a URL, and of an address, without asking anybody."""

from __future__ import annotations

import ipaddress

import pytest

from api_server.outbound.addresses import refusal
from api_server.outbound.errors import TargetForbiddenError, TargetRefusedError
from api_server.outbound.policy import Target, TargetPolicy, is_allowance

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:0:808:808::f5ff:fffe",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:a9fe:a9fe::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:830::200e",
]


@pytest.mark.parametrize("text", REFUSED)
def test_g3_an_address_that_is_not_of_the_internet(text: str) -> None:
    assert refusal(ipaddress.ip_address(text)) is not None
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(TargetRefusedError) as caught:
        TargetPolicy().check_url(f"https://{host}/token")
    assert (caught.value.code, caught.value.status) == ("target_refused", 422)


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_internet(text: str) -> None:
    assert refusal(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://provider.test/token",
        "ftp://provider.test/",
        "file:///etc/passwd",
        "https:/provider.test",
        "https:provider.test",
        "//provider.test/",
        "provider.test/token",
        "https://",
        "https:///token",
        "https://user@provider.test/",
        "https://user:hunter2@provider.test/",
        "https://@provider.test/",
        "https://provider.test/#fragment",
        "https://provider.test:0/",
        "https://provider.test:99999/",
        "https://provider.test:x/",
        "https://provider.test\\@10.0.0.1/",
        "https://provider .test/",
        "https://provider.test/a b",
        "https://provider.test/\r\nHost: x",
        "https://pr\u00f6vider.test/",
        "https://127\u30020\u30020\u30021/",
        "https://\u2460\u2461\u2466.0.0.1/",
        "https://%31%32%37.0.0.1/",
        "https://a..b/",
        "https://-a.test/",
        "https://a,b/",
        # An IPv4 address, for those who read it as inet_aton(3) does.
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.1./",
        "https://127.0.0.01/",
        "https://1.2.3.4.5/",
        "https://provider.0x/",
        "https://[::1%25lo]/",
        "https://[fe80::1%eth0]/",
        "https://[127.0.0.1]/",
        "https://[::1/",
        "https://" + "a" * 64 + ".test/",
        "https://provider.test/" + "a" * 2048,
    ],
)
def test_g3_a_url_that_can_be_no_target(url: str) -> None:
    with pytest.raises(TargetRefusedError) as caught:
        TargetPolicy().check_url(url)
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://Provider.Test", Target("https", "provider.test", 443, "/")),
        ("https://provider.test.:8443/a/b?c=%20d", Target("https", "provider.test", 8443, "/a/b?c=%20d")),
        ("HTTPS://xn--bcher-kva.test/?x", Target("https", "xn--bcher-kva.test", 443, "/?x")),
        ("https://8.8.8.8/", Target("https", "8.8.8.8", 443, "/")),
        ("https://[2606:4700:4700::1111]/", Target("https", "2606:4700:4700::1111", 443, "/")),
        ("https://1a/", Target("https", "1a", 443, "/")),
    ],
)
def test_a_url_of_a_target(url: str, target: Target) -> None:
    assert TargetPolicy().check_url(url) == target


def test_what_the_owner_lets_through_may_be_reached_by_http_too() -> None:
    policy = TargetPolicy(["Backend.Test", "10.1.0.0/16", "127.0.0.1", "fd00::/8"])
    for url in ("http://backend.test/", "http://10.1.2.3:8080/", "https://127.0.0.1/", "http://[fd00::1]/"):
        policy.check_url(url)
    for host, address in (
        ("backend.test", "192.168.0.1"),
        ("other.test", "10.1.0.1"),
        ("other.test", "::ffff:10.1.0.1"),
        ("other.test", "64:ff9b::10.1.0.1"),
    ):
        policy.check_host(host, [ipaddress.ip_address(address)])
    for url in ("http://10.2.0.1/", "https://127.0.0.2/", "http://sub.backend.test/", "http://8.8.8.8/"):
        with pytest.raises(TargetRefusedError):
            policy.check_url(url)
    with pytest.raises(TargetForbiddenError):
        policy.check_host("other.test", [ipaddress.ip_address("10.1.0.1"), ipaddress.ip_address("10.2.0.1")])


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "https://backend.test", "a b", "*.test", "127.1", "backend.test:80"]
)
def test_what_can_not_be_let_through(text: str) -> None:
    assert not is_allowance(text)
    with pytest.raises(ValueError, match="neither a host nor a network"):
        TargetPolicy([text])


def test_how_a_target_is_written_in_a_request() -> None:
    assert Target("https", "provider.test", 443, "/").authority == "provider.test"
    assert Target("https", "provider.test", 80, "/").authority == "provider.test:80"
    assert Target("http", "::1", 8080, "/").authority == "[::1]:8080"
