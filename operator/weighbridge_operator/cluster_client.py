"""`weighbridge status --kubernetes`: asks the operator through the API server's proxy, so that no port need be open.

Whoever asks needs the right to `get` `services/proxy` of the operator's Service, and nothing else.
"""

from __future__ import annotations

from weighbridge_operator.client import NoAnswerError, Place
from weighbridge_operator.cluster_api import ApiFault, ClusterApi, find_namespace
from weighbridge_operator.views.lines import clean

PORT = "admin"  # name of the Service's port
TIMEOUT = (3.0, 10.0)  # seconds to connect, to wait: an answer about ten thousand nodes takes its time


def over_cluster(namespace: str | None, service: str, context: str | None) -> Place:
    """The operator behind this Service; `namespace` is by default the kubeconfig's, or the pod's own."""
    return Place(f"Service {service}", lambda path: _fetch(path, namespace, service, context))


def _fetch(path: str, namespace: str | None, service: str, context: str | None) -> bytes:
    try:
        api = ClusterApi.connect(context=context)
        where = namespace or find_namespace(context)
    except ApiFault as fault:
        raise NoAnswerError(f"{clean(fault.text)}; set KUBECONFIG, or leave --kubernetes out") from fault
    try:
        return api.fetch("GET", f"/api/v1/namespaces/{where}/services/{service}:{PORT}/proxy{path}", timeout=TIMEOUT)
    except ApiFault as fault:
        raise NoAnswerError(_explain(fault, where, service)) from fault


def _explain(fault: ApiFault, namespace: str, service: str) -> str:
    place = f"Service {service} of namespace {namespace}"
    text = clean(fault.text)
    if fault.status == 401:
        return f"the API server does not know you ({text}): log in to the cluster anew"
    if fault.status == 403:
        return f"you may not ask the {place}: it takes the right to get services/proxy there ({text})"
    if fault.status == 404 and text.startswith("services "):
        return f"there is no {place}: say where the operator is with --namespace, and its Service with --service"
    if fault.status == 503 and "no endpoints" in text:
        return f"the {place} has no ready pod: kubectl -n {namespace} get pods says why"
    if fault.status in (500, 502, 503, 504):
        return f"the {place} does not answer: {text}"
    return text
