"""What a user may write as a service, what it becomes, and what the error says otherwise."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ids import ServiceName, is_name
from common.wire import FROM_DEVICE, DeviceHello, Service, decode, encode
from edge_agent.checks import ConnectCheck, HttpCheck
from edge_agent.errors import ServiceSpecError, UnknownServiceError
from edge_agent.services import DEFAULT_CONNECT_TIMEOUT, ServiceKind, ServiceList, parse_service
from edge_agent.targets import AddressTarget, LocalhostTarget, NamedTarget


@pytest.mark.parametrize(
    ("spec", "kind", "target"),
    [
        ("web=http://127.0.0.1:8000", ServiceKind.HTTP, AddressTarget(socket.AF_INET, ("127.0.0.1", 8000))),
        ("web=http://127.0.0.1:8000/", ServiceKind.HTTP, AddressTarget(socket.AF_INET, ("127.0.0.1", 8000))),
        ("web=http://127.0.0.1", ServiceKind.HTTP, AddressTarget(socket.AF_INET, ("127.0.0.1", 80))),
        ("web=http://[::1]:8000", ServiceKind.HTTP, AddressTarget(socket.AF_INET6, ("::1", 8000))),
        ("ssh=tcp://127.0.0.1:22", ServiceKind.TCP, AddressTarget(socket.AF_INET, ("127.0.0.1", 22))),
        ("nas=tcp://nas.lan:445", ServiceKind.TCP, NamedTarget("nas.lan", 445)),
        ("lan=tcp://[fe80::1%25eth0]:22", ServiceKind.TCP, NamedTarget("fe80::1%25eth0", 22)),
        ("app=unix:///run/app.sock", ServiceKind.TCP, AddressTarget(socket.AF_UNIX, "/run/app.sock")),
        ("app=unix:///run/an%20app.sock", ServiceKind.TCP, AddressTarget(socket.AF_UNIX, "/run/an app.sock")),
        ("api=http+unix:///run/api.sock", ServiceKind.HTTP, AddressTarget(socket.AF_UNIX, "/run/api.sock")),
    ],
)
def test_a_service_is_read(spec: str, kind: ServiceKind, target: object) -> None:
    service = parse_service(spec)
    assert service.name == spec.partition("=")[0]
    assert service.kind is kind
    assert service.target == target
    assert service.check == ConnectCheck()
    assert service.connect_timeout == DEFAULT_CONNECT_TIMEOUT


def test_localhost_is_both_loopback_addresses() -> None:
    service = parse_service("web=http://localhost:3000")
    assert isinstance(service.target, LocalhostTarget)
    assert str(service.target) == "localhost:3000"


def test_options_are_read() -> None:
    service = parse_service("web=http://127.0.0.1:8000?health=/healthz&connect_timeout=0.5")
    assert service.check == HttpCheck("/healthz")
    assert service.connect_timeout == 0.5
    assert parse_service("web=http://127.0.0.1?health=off").check is None
    assert parse_service("ssh=tcp://127.0.0.1:22?health=tcp").check == ConnectCheck()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "NAME=URL"),
        ("http://127.0.0.1:8000", "has no NAME="),
        ("http://127.0.0.1:8000?x=y", "has no NAME="),
        ("Web=http://127.0.0.1", "lower-case"),
        ("a--b=http://127.0.0.1", "single hyphens"),
        ("=http://127.0.0.1", "lower-case"),
        ("a" * 41 + "=http://127.0.0.1", "at most 40"),
        ("web=", "no scheme"),
        ("web=127.0.0.1:8000", "no scheme"),
        ("web=https://127.0.0.1", "tcp://"),
        ("web=ftp://127.0.0.1", "no scheme of a target"),
        ("web=http://", "no host"),
        ("web=http://127.0.0.1:0", "port 0"),
        ("web=http://" + "a" * 64 + ".example", "no host name"),
        ("web=http://x..example", "no host name"),
        ("web=http://127.0.0.1:99999", "cannot be read"),
        ("web=http://127.0.0.1:port", "cannot be read"),
        ("web=http://[::1", "cannot be read"),
        ("web=http://127.0.0.1/admin", "no path"),
        ("web=http://user:pass@127.0.0.1", "user name or password"),
        ("web=http://127.0.0.1#top", "#fragment"),
        ("ssh=tcp://127.0.0.1", "needs a port"),
        ("app=unix://run/app.sock", "three slashes"),
        ("app=unix:run/app.sock", "absolute path"),
        ("app=unix://", "absolute path"),
        ("app=unix:///a%00b", "absolute path"),
        ("app=unix:///" + "a" * 107, "107 bytes"),
        ("web=http://127.0.0.1?health", "OPTION=VALUE"),
        ("web=http://127.0.0.1?health=", "off, tcp"),
        ("web=http://127.0.0.1?health=maybe", "off, tcp"),
        ("web=http://127.0.0.1?health=/a b", "printable"),
        ("web=http://127.0.0.1?health=/a%0d%0aX:y", "printable"),
        ("ssh=tcp://127.0.0.1:22?health=/healthz", "only an HTTP service"),
        ("web=http://127.0.0.1?connect_timeout=0", "connect_timeout"),
        ("web=http://127.0.0.1?connect_timeout=nan", "connect_timeout"),
        ("web=http://127.0.0.1?connect_timeout=soon", "connect_timeout"),
        ("web=http://127.0.0.1?host=example.org", "no option"),
        ("web=http://127.0.0.1?health=off&health=tcp", "given twice"),
    ],
)
def test_a_service_that_cannot_be_read_says_what_is_wrong(spec: str, says: str) -> None:
    with pytest.raises(ServiceSpecError, match=says) as caught:
        parse_service(spec)
    assert "pass" not in caught.value.detail.replace("password", "")


@given(st.text())
def test_no_text_does_anything_but_become_a_service_or_be_refused(text: str) -> None:
    for spec in (text, "web=" + text, "web=http://" + text, "web=http://127.0.0.1?" + text, "app=unix:///" + text):
        outcome: object
        try:
            outcome = parse_service(spec).name
        except ServiceSpecError as exc:
            outcome = exc
        assert outcome.detail.isascii() if isinstance(outcome, ServiceSpecError) else is_name(str(outcome))


def test_a_name_stands_for_one_target() -> None:
    with pytest.raises(ServiceSpecError, match="twice"):
        ServiceList.parse(["web=http://127.0.0.1:1", "web=http://127.0.0.1:2"])


def test_an_agent_offers_as_many_services_as_a_hello_can_list() -> None:
    specs = [f"s{i}=tcp://127.0.0.1:1" for i in range(257)]
    services = ServiceList.parse(specs[:256])
    assert decode(
        encode(DeviceHello(software="x", services=[Service(name=name) for name in services]))[4:], FROM_DEVICE
    )
    with pytest.raises(ServiceSpecError, match="256 at most"):
        ServiceList.parse(specs)


def test_only_what_is_on_the_list_is_found() -> None:
    services = ServiceList.parse(["web=http://127.0.0.1:8000", "ssh=tcp://127.0.0.1:22"])
    assert services.find("ssh") is services[ServiceName("ssh")]
    assert list(services) == ["web", "ssh"]
    for name in ("", "WEB", "we", "web ", "web\0", "../web", "127.0.0.1:22", "tcp://127.0.0.1:22", "x" * 1000):
        with pytest.raises(UnknownServiceError) as caught:
            services.find(name)
        assert caught.value.code == "unknown_service"
        assert len(caught.value.detail) < 100


def test_its_repr_shows_what_it_offers() -> None:
    services = ServiceList.parse(["web=http://127.0.0.1:8000", "app=unix:///run/app.sock"])
    assert repr(services) == "<ServiceList web=http:127.0.0.1:8000, app=tcp:/run/app.sock>"
    assert repr(ServiceList([])) == "<ServiceList empty>"
