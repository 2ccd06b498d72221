"""Names of Envoy's things, each a function of what it stands for.

A cluster's name goes into statistics, where a dot ends it (https://www.envoyproxy.io/docs/envoy/latest/operations/stats_overview),
so that it holds none; a digest keeps names apart that look alike without their punctuation.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_address

from weighbridge_api.wire import BLOCKS_HEADER, CLUSTER_HEADER, SESSION_HEADER
from weighbridge_operator.core import ir

LISTENER = "entrance"
ROUTES = "entrance"
CERTIFICATE = "entrance"  # the SDS secret that the entrance opens with
#: Namespace of endpoint metadata, and the keys in it.
METADATA = "weighbridge"
STATISTICS = "weighbridge"  # first part of the names of what Envoy counts for us
DATAPLANE = "dataplane"  # the cluster of the bootstrap that leads to it
RUNTIME_LAYER = "weighbridge"  # of RTDS: what nodes there are to choose from
OTHERS_LAYER = "weighbridge-others"  # of RTDS: what all Envoys together have in flight there
UNKNOWN = "unknown"  # the entrance's script for answers about models that nobody serves
ASKED = "weighbridge.asked"  # namespace of dynamic metadata: what the entrance read of a request, for the request log

ROUTE_HEADER = "x-weighbridge-route"  # "type mode model first last", written by the entrance
SERVED_HEADER = "x-weighbridge-served"  # the chosen node's base path, and how it names its models
CREDENTIAL_HEADER = "x-weighbridge-credential"  # the name of the chosen node's credential
NODE_HEADER = "x-weighbridge-node"
POLICY_HEADER = "x-weighbridge-policy"
CHOICE_HEADER = "x-weighbridge-choice"  # on answers: "precise" where the node was named for the request, or "weights"
CLIENT_HEADER = "x-weighbridge-client"  # whose key a request came with; for filters, never for nodes
HOPS_HEADER = "x-weighbridge-hops"  # the gateways that a request has come through, by what each calls itself
#: What a client may never send: listed so that Envoy strips it before any filter.
OWN_HEADERS = (
    ROUTE_HEADER,
    SERVED_HEADER,
    CREDENTIAL_HEADER,
    NODE_HEADER,
    POLICY_HEADER,
    CLIENT_HEADER,
    CHOICE_HEADER,
    CLUSTER_HEADER,
    BLOCKS_HEADER,
    SESSION_HEADER,
)


def print_address(host: str, port: int) -> str:
    """As Envoy's statistics and everybody else write it: "host:port", an IPv6 literal in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_literal(host: str) -> bool:
    """Whether the host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def name_cluster(part: str) -> str:
    """The cluster of a pool's part."""
    return _plain(part)


def name_chain(clusters: tuple[str, ...], adapts: bool) -> str:
    """The cluster that tries these in order."""
    suffix = "\nadapt" if adapts else ""
    return f"chain-{_digest(chr(10).join(clusters) + suffix)}"


def name_first(chain: str) -> str:
    """The cluster of requests whose node was named in the chain's first cluster."""
    return f"first-of-{chain}"


def name_authorities(ca: tuple[str, str] | None) -> str:
    """The SDS secret with the authorities of Secret (namespace, name), or of the system."""
    return f"ca/{ca[0]}/{ca[1]}" if ca else "ca/system"


def name_credential(credential: tuple[str, str, str], api: ir.Format) -> str:
    """The SDS secret with the entry of Secret (namespace, name, entry), as the API wants to be sent it."""
    return ("credential/" if api == "openai" else "key/") + "/".join(credential)


def name_tls(tls: ir.Tls) -> str:
    """The transport socket for nodes with these TLS settings."""
    return f"{tls.server_name} {name_authorities(tls.ca)}"


def _plain(text: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', text).strip('_')[:80]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
