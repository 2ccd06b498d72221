"""The endpoint picker of the Gateway API's inference extension before a fleet, set up as its project does in tests.

An ext_proc names a node for each request. llm-d's picker is this one with more plugins, but it is linked with libraries
that no Go module brings. It asks a Kubernetes API server for its pool and its pods, so it gets a real one
(`support.apiserver`, no kubelet): each simulated node is a pod with an address of its own. Its program is built with Go
from its module, once, into the cache of the other gateways.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from overhead import make_bootstrap
from programs import find_cache, run_program, wait_answer
from support.apiserver import ApiServer, locate
from support.assets import NoAssetsError, find_assets
from support.envoy import RealEnvoy, free_port

NAME, MODULE, VERSION = "inference-extension", "sigs.k8s.io/gateway-api-inference-extension", "v1.0.0"
GROUP = "inference.networking.k8s.io"
BUILD = 2400.0  # seconds
NAMESPACE = "default"
_TYPES = "type.googleapis.com/envoy.extensions"
_CONFIG = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: single-profile-handler
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: max-score-picker}
"""


async def build() -> Path:
    """The directory of the program and the CRDs, built where it is not yet. RuntimeError says what is missing."""
    place = find_cache() / f"{NAME}-{VERSION}"
    if (place / "installed").exists():
        return place
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise RuntimeError("it is built with Go, which is not here")
    print(f"building {NAME} {VERSION} into {place} (once, minutes)", file=sys.stderr, flush=True)
    place.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place / "source", ignore_errors=True)
    said = await run_program(go, "mod", "download", "-json", f"{MODULE}@{VERSION}", cwd=Path(tempfile.gettempdir()))
    downloaded = Path(json.loads(said[said.index("{") :])["Dir"])
    # What Go keeps may not be written, and a build writes into go.sum.
    shutil.copytree(downloaded, place / "source", copy_function=shutil.copyfile)
    await run_program("chmod", "-R", "u+w", str(place / "source"))
    build = (go, "build", "-mod=mod", "-p=2", "-o", str(place / "epp"), "./cmd/epp")
    await run_program(*build, cwd=place / "source", limit=BUILD)
    (place / "installed").touch()
    return place


@asynccontextmanager
async def start(nodes: Sequence[str], model: str) -> AsyncIterator[tuple[str, int]]:
    """Runs the picker and an Envoy before these nodes (URLs with one port) until the block ends; URL and Envoy's id."""
    place = await build()
    try:
        assets = find_assets()
    except NoAssetsError as error:
        raise RuntimeError(str(error)) from None
    if assets is None:
        raise RuntimeError("it asks a Kubernetes API server: make assets builds one")
    with ApiServer(assets) as server, tempfile.TemporaryDirectory(prefix="picker-") as scratch:
        await asyncio.to_thread(
            _describe, server, place / "source" / "config" / "crd" / "bases", [urlsplit(node) for node in nodes]
        )
        port, health, metrics = free_port(), free_port(), free_port()
        config = Path(scratch) / "config.yaml"
        config.write_text(_CONFIG)
        flags = [f"--pool-name=pool --pool-namespace={NAMESPACE} --secure-serving=false --grpc-port={port} --v=1"]
        flags += [f"--grpc-health-port={health} --metrics-port={metrics} --config-file={config} --enable-pprof=false"]
        flags += ["--kv-cache-usage-percentage-metric=vllm:kv_cache_usage_perc"]
        with (Path(scratch) / "log").open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                str(place / "epp"), *" ".join(flags).split(), stdout=out, stderr=out,
                env=os.environ | {"KUBECONFIG": str(server.kubeconfig), "POD_NAME": "epp", "NAMESPACE": NAMESPACE},
            )  # fmt: skip
        try:
            async with RealEnvoy(make_envoy(port)) as envoy:
                url = f"http://127.0.0.1:{await envoy.listener_port()}"
                await wait_answer(url, model, process, Path(scratch) / "log")
                assert envoy.process is not None
                yield url, envoy.process.pid
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _describe(server: ApiServer, crds: Path, nodes: Sequence[Any]) -> None:
    """The pool, and a pod for each node that is ready at the node's address."""
    for path in sorted(crds.glob("*.yaml")):
        server.apply(yaml.safe_load(path.read_text()))
    reference = {"name": "epp", "port": {"number": 9002}}
    spec = {"selector": {"matchLabels": {"app": "sim"}}, "targetPorts": [{"number": nodes[0].port}]}
    _insist(server, {
        "apiVersion": f"{GROUP}/v1",
        "kind": "InferencePool",
        "metadata": {"name": "pool", "namespace": NAMESPACE},
        "spec": {**spec, "endpointPickerRef": reference},
    })  # fmt: skip
    for number, node in enumerate(nodes):
        metadata = {"name": f"node-{number}", "namespace": NAMESPACE, "labels": {"app": "sim"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        _insist(server, pod | {"spec": {"containers": [{"name": "sim", "image": "sim"}]}})
        status = {"phase": "Running", "podIP": node.hostname, "podIPs": [{"ip": node.hostname}]}
        status["conditions"] = [{"type": "Ready", "status": "True"}]
        server.request("PATCH", f"{locate(pod)}/status", {"status": status}, content="application/merge-patch+json")


def _insist(server: ApiServer, document: dict[str, Any]) -> None:
    # A kind, or a namespace, that has just been made is not served at once.
    deadline = time.monotonic() + 30
    while True:
        try:
            server.apply(document)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def make_envoy(picker: int) -> dict[str, Any]:
    """An Envoy that asks the picker at this port for every request and goes where it says."""
    many = {"thresholds": [{"max_connections": 40000, "max_pending_requests": 40000, "max_requests": 40000}]}
    sent = dict.fromkeys(("request_header", "response_header", "request_trailer", "response_trailer"), "SEND")
    sent |= dict.fromkeys(("request_body", "response_body"), "FULL_DUPLEX_STREAMED")
    ask = {
        "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}, "timeout": "10s"},
        "processing_mode": {f"{name}_mode": mode for name, mode in sent.items()},
        "message_timeout": "1000s",
    }
    http2 = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": picker}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    chosen = {"use_http_header": True, "http_header_name": "x-gateway-destination-endpoint"}
    clusters = [
        {"name": "chosen", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": chosen,
         "circuit_breakers": many},
        {"name": "picker", "type": "STATIC", "circuit_breakers": many,
         "load_assignment": {"cluster_name": "picker", "endpoints": endpoints},
         "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}},
    ]  # fmt: skip
    route = {"match": {"prefix": "/"}, "route": {"cluster": "chosen", "timeout": "0s"}}
    return make_bootstrap([route], clusters, {"name": "envoy.filters.http.ext_proc", "typed_config": ask})
