"""Ports of this machine: whether one is free, and one that is.

Envoy shares a port with whoever lets it (SO_REUSEPORT), silently, request by request; so ask before it starts.
"""

from __future__ import annotations

import errno
import socket


class PortTakenError(OSError):
    """Nobody can listen there now; the text says why and what to do."""


def check_port_free(host: str, port: int, remedy: str = "choose another with --port") -> None:
    """Raises PortTakenError unless one could listen on `port` of `host`, an IP literal or a name."""
    if port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # What still waits for its last packets doesn't count; what listens does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise PortTakenError(_explain(error, host, port, remedy)) from error


def _explain(error: OSError, host: str, port: int, remedy: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken; {remedy}"
        case errno.EACCES:
            return f"port {port} of {host} needs more rights than you have; {remedy}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine"
        case _:
            return f"cannot listen on port {port} of {host}: {error.strerror or error}"


def take_free_port(host: str) -> int:
    """A port on which nobody listens now. Somebody may a moment later."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
