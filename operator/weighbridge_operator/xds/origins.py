"""Where an Envoy may say that its statistics are: the operator will ask there, so that nobody may send it anywhere.

Whoever reaches xDS without TLS is believed no more than what the connection shows: its own address, any port. An Envoy
that proved who it is may have another, behind a translation of addresses, but none that leads to the operator itself,
to a machine's own services or to the API server. Names are never asked for: they can mean something else each time.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

Address = IPv4Address | IPv6Address


def refuse_origin(
    url: str, peer: str, *, proven: bool, refused: Collection[str] = (), listed: Collection[str] = ()
) -> str | None:
    """Why statistics are not asked for at this URL, in words; None where they are.

    `peer`: gRPC's name of who says it; `proven`: by its certificate. `refused`: IP literals that nothing of ours is at;
    `listed`: where the cluster says that Envoys of ours are.
    """
    told = _read_origin(url)
    if told is None:
        return f"it says {url[:80]!r} of its statistics, which is not http://ADDRESS:PORT"
    caller = _read_peer(peer)
    if url in listed:
        return None
    if caller is not None and (told == caller or (told.is_loopback and _is_here(caller))):
        return None
    if not proven:
        return (
            f"it says that its statistics are at {told}, and comes from {caller or peer}: without TLS of xDS only its "
            "own address is asked; start it with --stats at that address, or prove it with --xds-tls-directory"
        )
    if told.is_loopback or told.is_link_local or told.is_multicast or told.is_unspecified or str(told) in refused:
        return f"it says that its statistics are at {told}, where no Envoy can be: start it with --stats at its own"
    return None


def _read_origin(url: str) -> Address | None:
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.port is None or f"http://{parts.netloc}" != url or "@" in url:
            return None
        return _plain(parts.hostname or "")
    except ValueError:
        return None


def _read_peer(peer: str) -> Address | None:
    """gRPC writes "ipv4:10.0.0.1:4711" and "ipv6:%5B::1%5D:4711"."""
    family, _, rest = unquote(peer).partition(":")
    try:
        return _plain(rest.rpartition(":")[0].strip("[]")) if family in ("ipv4", "ipv6") else None
    except ValueError:
        return None


def _plain(text: str) -> Address:
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_here(address: Address) -> bool:
    """Whether this machine has the address; who comes from it may mean its own loopback."""
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
