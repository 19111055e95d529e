"""Types of settings; each refuses bad values by its own rule."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema

PRIVATE_NETWORKS = tuple(ipaddress.IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""RFC 1918. Other private ranges are unsuitable for machines: loopback, link-local, the nodes' own bridges."""


def matching(pattern: str, rule: str) -> Callable[[str], str]:
    """Return a validator that refuses a text unless all of it matches; the refusal quotes the rule."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return check


host_label = matching(
    r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?",
    "must be a lower case RFC 1123 host name of at most 30 letters, digits and inner hyphens",
)
# IP addresses are excluded: the proxies' health checks go to 127.0.0.1.
_host_name = matching(
    r"(?=.{1,253}$)(?!(.*\.)?[0-9]+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
    "must be a lower case host name, as visitors type it",
)
_user = matching(r"[a-z_][a-z0-9_-]{0,31}", "must be the name of a Unix account: small letters, digits, '-' and '_'")
_JUMP_HOST = r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?"
_jump = matching(
    rf"{_JUMP_HOST}(,{_JUMP_HOST})*",
    "must be jump hosts as ssh's ProxyJump takes them: [user@]host[:port], separated by commas",
)
_image = matching(
    r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    "must be an image reference",
)
_registry = matching(
    r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._/-]+)?",
    "must be a registry as host, host:port or host:port/path, without a scheme",
)
_box = matching(
    r"own|[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", "must be a public Vagrant box as owner/name, or own"
)
_DIRECTIVE = "[a-z]+(-[a-z]+)*(=[0-9]+)?"
_cache_control = matching(
    rf"({_DIRECTIVE}(, ?{_DIRECTIVE})*)?",
    'must be Cache-Control directives, separated by commas; "" sends none',
)
_charset = matching(r"[A-Za-z][A-Za-z0-9._-]{1,39}", "must be the name of a character encoding, or off")
_size = matching(r"[0-9]{1,6}[kmg]?", "must be an nginx size: digits and k, m or g; 0 means no limit")


def _network(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 network in CIDR notation ({error})") from None
    if not any(network.subnet_of(private) for private in PRIVATE_NETWORKS) or not 16 <= network.prefixlen <= 28:
        raise ValueError("must be a private IPv4 network of /16 to /28")
    return value


def _any_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"must be an IPv4 or IPv6 network in CIDR notation ({error})") from None


def _address(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise ValueError("must be an IPv4 address") from None
    if address.is_loopback or address.is_multicast or address.is_link_local or address.is_reserved or not int(address):
        raise ValueError("must be an IPv4 address at which the other hosts reach it")
    return value


def _text(rule: str, **more: object) -> WithJsonSchema:
    """Return the description of a text type with its own rule, for the settings manual."""
    return WithJsonSchema({"type": "string", "format": rule, **more})


HostLabel = Annotated[
    str, AfterValidator(host_label), _text("RFC 1123 host name, at most 30 characters", examples=["docs"])
]
HostName = Annotated[str, AfterValidator(_host_name), _text("host name", examples=["docs.example"])]
Cidr = Annotated[
    str,
    AfterValidator(_network),
    _text(
        "private IPv4 network (RFC 1918), /16 to /28",
        description="Network of the machines. Machine N gets the network address plus 10 plus N.",
        examples=["192.168.57.0/24"],
    ),
]
Network = Annotated[
    str, AfterValidator(_any_network), _text("IPv4 or IPv6 network in CIDR notation", examples=["203.0.113.0/24"])
]
Address = Annotated[
    str, AfterValidator(_address), _text("IPv4 address (not loopback, link-local, multicast or reserved)")
]
User = Annotated[str, AfterValidator(_user), _text("Unix account")]
Jump = Annotated[str, AfterValidator(_jump), _text("[user@]host[:port], separated by commas")]
ImageReference = Annotated[str, AfterValidator(_image), _text("image reference")]
Registry = Annotated[str, AfterValidator(_registry), _text("host, host:port or host:port/path, no scheme")]
Box = Annotated[str, AfterValidator(_box), _text("owner/name of a public Vagrant box, or own")]
CacheControl = Annotated[str, AfterValidator(_cache_control), _text("Cache-Control directives, or empty for none")]
Charset = Annotated[str, AfterValidator(_charset), _text("name of a character encoding, or off")]
NginxSize = Annotated[str, AfterValidator(_size), _text("digits, optionally followed by k, m or g")]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are not converted, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
