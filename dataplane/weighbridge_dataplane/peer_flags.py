"""The flags by which data planes find each other, and what comes of them."""

from __future__ import annotations

import argparse
import platform
import secrets
from hashlib import blake2b
from pathlib import Path

from weighbridge_api import flags
from weighbridge_dataplane.peer_trust import Trust
from weighbridge_dataplane.peers import Peers, PeersError, is_here
from weighbridge_dataplane.pools import Pools
from weighbridge_dataplane.records import Records
from weighbridge_dataplane.words import Hello

PROCESSES_MOST = 64  # beside one Envoy


def add_peers(parser: argparse.ArgumentParser) -> None:
    """Flags of `dataplane`."""
    group = parser.add_argument_group(
        "peers", "The data planes of several Envoys choose better when they tell each other what they sent."
    )
    group.add_argument("--peer-listen", type=flags.address, metavar="ADDRESS:PORT", help="where others tell this one")
    group.add_argument(
        "--peer",
        type=flags.target,
        action="append",
        metavar="HOST:PORT",
        help="whom to tell: all addresses of this name, looked up every few seconds; may be given again, and may be "
        "this process itself",
    )
    group.add_argument(
        "--peer-tls",
        type=Path,
        metavar="DIR",
        help="ca.crt, tls.crt and tls.key by which they know each other, read anew when they change; without it peers "
        "are told and heard on loopback alone",
    )
    group.add_argument(
        "--peer-processes",
        type=flags.number(1, PROCESSES_MOST),
        default=1,
        metavar="N",
        help="how many data planes stand beside this Envoy (%(default)s)",
    )


def make_peers(options: argparse.Namespace, pools: Pools, records: Records) -> Peers | None:
    """Listens already; None where it was not asked for. Raises PeersError."""
    listen, targets = options.peer_listen, options.peer
    if listen is None and targets is None:
        if options.peer_tls is not None or options.peer_processes != 1:
            raise PeersError("--peer-tls and --peer-processes are for peers: give --peer-listen and --peer, too")
        return None
    if listen is None or targets is None:
        raise PeersError("--peer-listen and --peer belong together: give both, or none")
    if options.peer_tls is None and not is_here(listen):
        raise PeersError(f"--peer-listen {listen[0]}: others could listen in; give --peer-tls, or listen on 127.0.0.1")
    # One that has the same host and Envoy stands beside the same Envoy.
    envoy = blake2b(f"{platform.node()} {options.admin_url}".encode(), digest_size=16).digest()
    own = Hello(secrets.token_bytes(16), envoy, options.peer_processes)
    peers = Peers(own, targets, None if options.peer_tls is None else Trust(options.peer_tls), pools, records)
    peers.start(*listen)
    return peers
