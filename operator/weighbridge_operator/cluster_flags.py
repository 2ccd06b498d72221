"""The flags of `weighbridge operator --kubernetes`, and what they mean: objects from a cluster instead of files.

Environment: POD_NAMESPACE and POD_NAME, which the chart sets from the pod's own fields.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from weighbridge_api.base import Shape
from weighbridge_api.faults import read_faults
from weighbridge_api.values import Namespace, ObjectName
from weighbridge_operator.settings import ALL, LEASE, SERVICE, KubernetesSettings


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """The flags of the cluster; only with --kubernetes."""
    add = parser.add_argument_group("in a cluster (with --kubernetes)").add_argument
    add(
        "--watch-namespace",
        dest="watch",
        metavar="NAMESPACE",
        action="append",
        default=[],
        help="whose objects are read beside those of the gateway's own namespace; may be given again; * reads all",
    )
    add(
        "--envoys-service",
        metavar="NAME",
        help="the headless Service of the gateway's namespace whose endpoints are its Envoys, with a port named stats",
    )
    add(
        "--lease",
        metavar="NAME",
        help="the Lease whose holder writes the objects' status (default: weighbridge); each gateway of a namespace "
        "needs its own",
    )


def add_proxy(parser: argparse.ArgumentParser) -> None:
    """The flags with which `status` and `explain` find an operator in a cluster."""
    add = parser.add_argument_group("of an operator in a cluster").add_argument
    add("--kubernetes", action="store_true", help="ask through the API server that KUBECONFIG names, not --url")
    add("-n", "--namespace", metavar="NAMESPACE", help="the operator's (default: the kubeconfig's)")
    add("--service", metavar="NAME", default=SERVICE, help="the operator's Service (default: %(default)s)")
    add("--context", metavar="NAME", help="of the kubeconfig (default: the current one)")


def read_cluster(options: argparse.Namespace, environ: Mapping[str, str]) -> KubernetesSettings | None:
    """None where objects come from files. Raises ValueError with a remedy."""
    if not options.kubernetes:
        for given, flag in _CLUSTER_ONLY.items():
            if getattr(options, given):
                raise ValueError(f"{flag} means something only with --kubernetes: add that, or leave {flag} out")
        return None
    if options.state is not None:
        raise ValueError("--state is for files: in a cluster the weights of the last run are in the nodes' status")
    source = "--namespace" if options.namespace else "POD_NAMESPACE"
    namespace = options.namespace or environ.get("POD_NAMESPACE")
    if not namespace:
        raise ValueError("which namespace is the gateway's own? Say --namespace, or set POD_NAMESPACE")
    own = _check(source, namespace, _NAMESPACE)
    if ALL in options.watch and set(options.watch) != {ALL}:
        raise ValueError(f"--watch-namespace {ALL} is every namespace: leave the others out")
    watch = {own, *(_check("--watch-namespace", name, _NAMESPACE) for name in options.watch if name != ALL)}
    return KubernetesSettings(
        namespace=own,
        identity=environ.get("POD_NAME") or socket.gethostname(),
        watch=(ALL,) if ALL in options.watch else tuple(sorted(watch)),
        envoys=_check("--envoys-service", options.envoys_service, _NAME) if options.envoys_service else None,
        lease=_check("--lease", options.lease, _NAME) if options.lease else LEASE,
    )


_CLUSTER_ONLY = {"watch": "--watch-namespace", "envoys_service": "--envoys-service", "lease": "--lease"}
_NAMESPACE: TypeAdapter[str] = TypeAdapter(Namespace)
_NAME: TypeAdapter[str] = TypeAdapter(ObjectName)


def _check(flag: str, name: str, kind: TypeAdapter[str]) -> str:
    try:
        return kind.validate_python(name)
    except ValidationError as error:
        raise ValueError(f"{flag} {name[:80]!r} {read_faults(error, Shape)[0]}") from None
