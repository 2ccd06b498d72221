"""One installation for the whole run, on the cluster that KUBECONFIG names.

E2E_OPERATOR_IMAGE, E2E_ENVOY_IMAGE, E2E_SIMULATOR_IMAGE: images that the cluster has (defaults: as `make images` names
them). E2E_URL: the entrance as seen from here, where NodePorts can't be reached. E2E_API_STOP, E2E_API_START: shell
commands that take the API server away and bring it back. HELM, KUBECTL: the programs, else by PATH.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.cluster import NAMESPACE, RELEASE, ROOT, Cluster, CommandError, find, run, wait_until
from support.release import install


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The gateway installed, with the demo's nodes in service."""
    missing = [program for program in ("helm", "kubectl") if find(program) is None]
    if missing or not os.environ.get("KUBECONFIG"):
        pytest.exit(f"the end-to-end tests need KUBECONFIG and {', '.join(missing) or 'a cluster'}", 2)
    own = Cluster()
    own.make_namespace()
    try:
        install(own)
        own.kubectl("apply", "-f", str(ROOT / "examples" / "cluster" / "demo.yaml"))
        for kind, name in (("modelnode", "demo-large"), ("modelnode", "demo-small"), ("routepolicy", "demo")):
            own.wait_condition(kind, name, "Ready")
        yield own
    finally:
        _tell(own)
        with suppress(CommandError):
            own.helm("uninstall", RELEASE, "--wait", "--timeout=180s")
        with suppress(CommandError, subprocess.TimeoutExpired):
            run(find("kubectl") or "kubectl", "delete", "namespace", NAMESPACE, "--timeout=180s")


def _tell(cluster: Cluster) -> None:
    """What a reader of a failure wants to see; pytest shows it beside the failure."""
    for command in (("get", "pods,modelnodes,routepolicies", "-o", "wide"), ("get", "events")):
        with suppress(CommandError):
            print(cluster.kubectl(*command)[-6000:])
    for component in ("operator", "envoy"):
        with suppress(CommandError):
            label = f"app.kubernetes.io/component={component}"
            print(cluster.kubectl("logs", "-l", label, "--tail=40", "--prefix"))


@pytest.fixture
def gateway(cluster: Cluster) -> str:
    """Its URL, once every pod is ready and the entrance answers."""
    for deployment in (f"{RELEASE}-operator", f"{RELEASE}-envoy", "demo-large", "demo-small"):
        cluster.wait_rolled(deployment)
    url = cluster.entrance()
    wait_until(lambda: _serves(url), f"{url} serves", 60)
    return url


def _serves(url: str) -> bool:
    from openai import OpenAI, OpenAIError

    try:
        return bool(OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=5).models.list().data)
    except OpenAIError:
        return False
