"""The chart, installed for the end-to-end tests with images that the cluster has."""

from __future__ import annotations

import os

from support.cluster import CHART, RELEASE, Cluster

IMAGES = ("operator", "envoy", "simulator")


def list_values() -> list[str]:
    """Flags of helm: the images, a reachable entrance, and requests that fit a small machine."""
    flags = [
        "--set=demo.enabled=true",
        "--set=operator.debugHeaders=true",
        "--set=service.type=NodePort",
        "--set=operator.resources.requests.cpu=50m",
        "--set=envoy.resources.requests.cpu=50m",
        "--set=envoy.concurrency=1",
        "--set=envoy.terminationGracePeriodSeconds=120",
        "--set=prometheus.url=http://prometheus:9090",
        "--set=networkPolicy.monitoring[0].podSelector.matchLabels.app=prometheus",
    ]
    for name in IMAGES:
        image = os.environ.get(f"E2E_{name.upper()}_IMAGE", f"weighbridge/{name}:dev")
        repository, _, tag = image.rpartition(":")
        flags += [f"--set=images.{name}.repository={repository}", f"--set-string=images.{name}.tag={tag}"]
    return flags


def install(cluster: Cluster, *more: str) -> None:
    """Installs or upgrades the release, and waits until all of it is ready."""
    cluster.helm("upgrade", "--install", RELEASE, str(CHART), *list_values(), *more, "--wait", "--timeout=240s")
