"""IP addresses and networks (CIDR), as Go's net/netip reads them and Kubernetes allows them. Part of the library.

Not allowed: zones, and IPv4 addresses inside IPv6. Sources: k8s.io/apiserver pkg/cel/library/{ip,cidr}.go.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Final

from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import Opaque, Value

_PREFIX: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")
_LOCAL_MULTICAST: Final = ipaddress.ip_network("224.0.0.0/24")
_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Address(Opaque):
    """An IP address."""

    address: IPv4Address | IPv6Address
    kind: ClassVar[str] = "net.IP"

    @property
    def bits(self) -> int:
        """32 or 128."""
        return self.address.max_prefixlen

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Network(Opaque):
    """An address with the length of its prefix; bits behind the prefix are kept."""

    address: Address
    length: int
    kind: ClassVar[str] = "net.CIDR"

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address:
    """Read an IP address. Raises `EvaluationError`."""
    try:
        address = ipaddress.ip_address(text.replace("%", "no zone") if len(text) <= _LONGEST else "")
    except ValueError as error:
        raise EvaluationError(f"IP Address {text[:_LONGEST]!r} parse error during conversion from string") from error
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise EvaluationError(f"IPv4-mapped IPv6 address {text!r} is not allowed")
    return Address(address)


@lru_cache(maxsize=1024)
def parse_network(text: str) -> Network:
    """Read an address with a prefix. Raises `EvaluationError`."""
    address, _, prefix = text.rpartition("/")
    try:
        parsed = parse_address(address)
    except EvaluationError as error:
        raise EvaluationError(f"network address parse error during conversion from string: {error}") from error
    if not _PREFIX.fullmatch(prefix) or int(prefix) > parsed.bits:
        raise EvaluationError(f"network address parse error during conversion from string: prefix {prefix!r}")
    return Network(parsed, int(prefix))


def _succeeds(parse: Callable[[str], Value]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except EvaluationError:
            return False
        return True

    return check


def _significant(address: Address, length: int) -> int:
    return int(address.address) >> (address.bits - length)


def _contains(network: Network, address: Address) -> bool:
    if network.address.bits != address.bits:
        return False
    return _significant(network.address, network.length) == _significant(address, network.length)


def _contains_network(network: Network, other: Network) -> bool:
    return network.length <= other.length and _contains(network, other.address)


def _masked(network: Network) -> Network:
    bits = network.address.bits - network.length
    number = int(network.address.address) >> bits << bits
    return Network(Address(type(network.address.address)(number)), network.length)


def _is_local_multicast(each: Address) -> bool:
    if isinstance(each.address, IPv4Address):
        return each.address in _LOCAL_MULTICAST
    return int(each.address) >> 112 & 0xFF0F == 0xFF02


def _is_local_unicast(each: Address) -> bool:
    if isinstance(each.address, IPv4Address):
        return each.address.is_link_local
    return int(each.address) >> 118 == 0xFE80 >> 6


def _is_global_unicast(each: Address) -> bool:
    address = each.address
    if address == _BROADCAST or address.is_unspecified or address.is_loopback or address.is_multicast:
        return False
    return not _is_local_unicast(each)


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "string_to_ip": parse_address,
    "is_ip": _succeeds(parse_address),
    "ip_is_canonical": lambda text: str(parse_address(text)) == text,
    "ip_to_string": str,
    "ip_family": lambda each: each.address.version,
    "ip_is_unspecified": lambda each: each.address.is_unspecified,
    "ip_is_loopback": lambda each: each.address.is_loopback,
    "ip_is_link_local_multicast": _is_local_multicast,
    "ip_is_link_local_unicast": _is_local_unicast,
    "ip_is_global_unicast": _is_global_unicast,
    "string_to_cidr": parse_network,
    "is_cidr": _succeeds(parse_network),
    "cidr_to_string": str,
    "cidr_ip": lambda network: network.address,
    "cidr_prefix_length": lambda network: network.length,
    "cidr_masked": _masked,
    "cidr_contains_ip_string": lambda network, text: _contains(network, parse_address(text)),
    "cidr_contains_ip_ip": _contains,
    "cidr_contains_cidr_string": lambda network, text: _contains_network(network, parse_network(text)),
    "cidr_contains_cidr": _contains_network,
}
"""Functions by the ids of their overloads."""
