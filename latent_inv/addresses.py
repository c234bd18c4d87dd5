"""Addresses, and which of them never leave this machine."""

from __future__ import annotations

import ipaddress

#: gRPC's schemes of addresses that are files or hypervisors of this machine
_LOCAL_SCHEMES = ("unix:", "unix-abstract:")
_SCHEMES = ("dns:", "ipv4:", "ipv6:")


def is_loopback(host: str) -> bool:
    """Is this an address of this machine alone?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def stays_here(target: str) -> bool:
    """Do calls to a gRPC target ("host:port", "[::1]:50051", "dns:///host:port", "unix:/path") stay on this machine?"""
    if target.startswith(_LOCAL_SCHEMES):
        return True
    for scheme in _SCHEMES:
        target = target.removeprefix(scheme)
    if target.startswith("//"):  # then the address of a name server, if any
        target = target[2:].partition("/")[2]
    # Whatever is left of another scheme is no loopback address.
    return all(is_loopback(_host(place)) for place in target.split(","))


def _host(place: str) -> str:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host if rest[:1] in ("", ":") else place
    # More than one colon is an IPv6 address without a port.
    return place.partition(":")[0] if place.count(":") == 1 else place
