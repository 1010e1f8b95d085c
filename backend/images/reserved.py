"""Which IP addresses belong to the open internet, and which spellings of one we take.

The ranges are written out, and not asked of the standard library: what that calls global moved
between releases, and it takes addresses of relays for global whatever they lead to. Sources: the
IANA registries of special-purpose addresses for IPv4 and IPv6, as of 2025.
"""

import ipaddress
import re

IPv4, IPv6 = ipaddress.IPv4Address, ipaddress.IPv6Address

RESERVED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by the customers of a provider
            "127.0.0.0/8",  # this machine
            "168.63.129.16/32",  # Azure's own service to its machines, though the range is public
            "169.254.0.0/16",  # this link; clouds answer here with a machine's keys
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols; some clouds answer here, too
            "192.0.2.0/24",  # examples in documents
            "192.31.196.0/24",  # AS112: swallows look-ups of private addresses
            "192.52.193.0/24",  # relays for multicast
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # measuring networks
            "198.51.100.0/24",  # examples in documents
            "203.0.113.0/24",  # examples in documents
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # future use, and broadcast
        ),
    )
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all that is given out to anybody
RESERVED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols: Teredo, ORCHID, measuring networks
            "2001:db8::/32",  # examples in documents
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # examples in documents
        ),
    )
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # how networks with IPv6 alone reach IPv4
NUMBER = re.compile(r"(0x[0-9a-f]*|\d+)", re.IGNORECASE)
NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet. Raises ValueError for what is none.

    Of IPv4 addresses wrapped in IPv6 only those are unwrapped that a system's own look-up may
    give: mapped ones, and NAT64's common prefix. All other wrappings are not public.
    """
    if "%" in address:  # a zone exists within one machine only
        return False
    ip = ipaddress.ip_address(address)
    if isinstance(ip, IPv6):
        inner = ip.ipv4_mapped or (IPv4(int(ip) & 0xFFFF_FFFF) if ip in NAT64 else None)
        if inner is None:
            return ip in PUBLIC_V6 and not any(ip in range_ for range_ in RESERVED_V6)
        ip = inner
    return not any(ip in range_ for range_ in RESERVED_V4)


def is_address(host: str) -> bool:
    """Whether a host, as `host_of` writes it, is an IP address and no name."""
    return ":" in host or NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def host_of(text: str) -> str:
    """A host in one spelling: lower case, international names as they travel, no dot at the end.

    An IP address must be written the usual way: `127.1`, `0x7f.0.0.1` and `2130706433` mean
    something to some look-ups and something else, or nothing, to others. Raises ValueError.
    """
    if ":" in text:
        return str(IPv6(text)) if "%" not in text else _wrong("has a zone")
    host = text.encode("idna").decode().lower()  # UnicodeError is a ValueError
    host = host[:-1] if host.endswith(".") else host
    if not host:
        return ""
    if NUMBER.fullmatch(host.rpartition(".")[2]):  # then all of it must be one: WHATWG's rule
        return str(IPv4(host))
    return host if len(host) <= 253 and NAME.fullmatch(host) else _wrong("is not a server's name")


def _wrong(problem: str) -> str:
    raise ValueError(problem)
