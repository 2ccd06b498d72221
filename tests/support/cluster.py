"""The cluster that KUBECONFIG names, by kubectl and helm: as a user of it would."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "weighbridge"
RELEASE = NAMESPACE = "weighbridge"
PATIENCE = 240.0  # seconds for anything that must come
Json = dict[str, Any]


class CommandError(Exception):
    """A command failed; the message has its words."""


def run(*command: str, text: str | None = None, limit: float = PATIENCE) -> str:
    """What the command prints. Raises CommandError."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode:
        raise CommandError(f"{shlex.join(command)[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def find(program: str) -> str | None:
    """The path of helm or kubectl: by HELM or KUBECTL, else by PATH."""
    return os.environ.get(program.upper()) or shutil.which(program)


def wait_until(true: Callable[[], object], what: str, limit: float = PATIENCE) -> Any:
    """Asks until the answer is true, and gives it. Raises TimeoutError."""
    deadline, last = time.monotonic() + limit, ""
    while True:
        try:
            if found := true():
                return found
        except CommandError as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {limit:.0f} s still not: {what}. {last}")
        time.sleep(0.3)


class Cluster:
    """Everything in one namespace of it."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self._kubectl, self._helm = find("kubectl") or "kubectl", find("helm") or "helm"

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return run(self._kubectl, "-n", self.namespace, *arguments, text=text)

    def helm(self, *arguments: str) -> str:
        return run(self._helm, "-n", self.namespace, *arguments)

    def get(self, *arguments: str) -> Json:
        """One object, or a list of them."""
        read: Json = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return read

    def apply(self, *documents: Json) -> str:
        return self.kubectl(
            "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        )

    def make_namespace(self) -> None:
        """With the strictest of Kubernetes' own rules for pods."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})

    def pods(self, component: str) -> list[str]:
        """Names of the ready pods that are not being deleted."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return sorted(pod["metadata"]["name"] for pod in found if _is_ready(pod))

    def restart(self, deployment: str) -> None:
        """Rolls it, and waits until the new pods are ready."""
        self.kubectl("rollout", "restart", f"deployment/{deployment}")
        self.wait_rolled(deployment)

    def wait_rolled(self, deployment: str) -> None:
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={PATIENCE:.0f}s")

    def condition(self, kind: str, name: str, condition: str) -> Json:
        """Of an object, with its type, status, reason and message; empty while there is none."""
        for each in self.get(kind, name).get("status", {}).get("conditions", []):
            if each["type"] == condition:
                return dict(each)
        return {}

    def wait_condition(self, kind: str, name: str, condition: str, status: str = "True") -> Json:
        """Once it has this status."""

        def look() -> Json:
            seen = self.condition(kind, name, condition)
            return seen if seen.get("status") == status else {}

        try:
            found: Json = wait_until(look, f"{kind} {name} {condition}={status}", 60)
        except TimeoutError as error:
            raise TimeoutError(f"{error} {self.kubectl('get', kind, name, '-o', 'yaml')}") from None
        return found

    def entrance(self) -> str:
        """The gateway's URL as seen from here: E2E_URL, else the NodePort on the first node."""
        if given := os.environ.get("E2E_URL"):
            return given
        port = self.get("service", RELEASE)["spec"]["ports"][0]["nodePort"]
        addresses = self.get("nodes")["items"][0]["status"]["addresses"]
        host = next(each["address"] for each in addresses if each["type"] == "InternalIP")
        return f"http://{host}:{port}"


def _is_ready(pod: Json) -> bool:
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
