"""What the API server says that the operator's service account may do, with the chart's objects as they are."""

from __future__ import annotations

import time

import pytest

from support.apiserver import ApiServer, call
from support.charts import render
from weighbridge_operator.permissions import CERTIFICATES, OBJECTS, OWN, Permission

RIGHTS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
LIMIT = 20.0  # seconds until the API server has read what was granted; a busy machine
Right = tuple[str, str, str, tuple[str, ...]]


def ask(server: ApiServer, own: str, namespace: str) -> set[Right]:
    """All that it may in a namespace, but for asking about itself, which everybody may."""
    api = server.connect()
    api.set_default_header("Impersonate-User", f"system:serviceaccount:{own}:weighbridge-operator")
    told = call(api, "POST", REVIEWS, {"spec": {"namespace": namespace}})["status"]
    assert not told["incomplete"]
    return {
        (group, resource, verb, tuple(sorted(rule.get("resourceNames", ()))))
        for rule in told["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in ("authorization.k8s.io", "authentication.k8s.io")
    }


def rights(*tables: tuple[Permission, ...]) -> set[Right]:
    names = ("weighbridge-xds", "weighbridge-xds-client")
    return {
        (p.group, p.resource, verb, names if p.named else ()) for table in tables for p in table for verb in p.verbs
    }


@pytest.mark.parametrize("watched", [(), ("a", "b"), ("*",)], ids=["one", "several", "all"])
def test_it_may_what_the_table_says_where_it_says_so_and_nothing_else(
    api_server: ApiServer, watched: tuple[str, ...]
) -> None:
    own, a, b, other = (api_server.create_namespace() for _ in range(4))
    names = {"a": a, "b": b, "*": "*"}
    listed = ",".join(names[each] for each in watched)
    flags = (f"--set=watch.namespaces={{{listed}}}",) if watched else ()
    for document in render(f"--namespace={own}", *flags):
        if document["kind"] in RIGHTS:
            if not document["kind"].startswith("Cluster"):
                document["metadata"].setdefault("namespace", own)
            api_server.apply(document)
    here, there = rights(OBJECTS, OWN, CERTIFICATES), rights(OBJECTS)
    everywhere = watched == ("*",)
    wanted = {
        own: here,
        a: there if everywhere or "a" in watched else set(),
        b: there if everywhere or "b" in watched else set(),
        other: there if everywhere else set(),
    }
    deadline = time.monotonic() + LIMIT
    while ask(api_server, own, own) != here and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {namespace: ask(api_server, own, namespace) for namespace in wanted} == wanted
