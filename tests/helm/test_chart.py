"""The chart as helm renders it: goldens, its schema, CRDs that stay, pods that pass, rights that the code needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.charts import need_helm, pick, render
from support.cluster import CHART, CommandError, run
from weighbridge_api.wire import PEER_IDENTITY
from weighbridge_operator.permissions import CERTIFICATES, OBJECTS, OWN, Permission

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FULL = HERE / "full.yaml"
#: Values whose effect another value of full.yaml hides: tried on the defaults, with this.
ALONE = {
    "nameOverride": "other",
    "crds.install": False,
    "networkPolicy.enabled": False,
    "envoy.replicas": 5,
    "images.operator.digest": f"sha256:{'b' * 64}",
    "images.envoy.tag": "7",
}
#: Flags that a value needs beside it.
BESIDE = {
    "prometheus.user": ("--set=prometheus.passwordSecret=",),
    "prometheus.passwordSecret": ("--set=prometheus.user=",),
}
HIDDEN = {"prometheus.tokenSecret", "images.simulator.digest"}  # tried by itself; like the operator's


def test_lint_is_content() -> None:
    for flags in ((), (f"--values={FULL}",)):
        run(need_helm(), "lint", "--strict", str(CHART), *flags)


@pytest.mark.parametrize("name", ["default", "full"])
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    objects = render(values=FULL if name == "full" else None)
    own = [each for each in objects if each["kind"] != "CustomResourceDefinition"]
    text = yaml.safe_dump_all(own, sort_keys=True, width=120)
    golden = HERE / "golden" / f"{name}.yaml"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text(), "run: python -m pytest tests/helm --update-golden"


def test_crds_upgrade_with_the_chart_and_stay_without_it() -> None:
    rendered = {o["metadata"]["name"]: o for o in render() if o["kind"] == "CustomResourceDefinition"}
    for path in (ROOT / "crds").glob("*.yaml"):
        fresh = "run: weighbridge crds --output helm/weighbridge/files/crds"
        assert (CHART / "files/crds" / path.name).read_text() == path.read_text(), fresh
        crd = yaml.safe_load(path.read_text())
        found = rendered.pop(crd["metadata"]["name"])
        assert found["spec"] == crd["spec"]
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert rendered == {}


def test_every_value_does_something() -> None:
    defaults = dict(list_leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    full = dict(list_leaves(yaml.safe_load(FULL.read_text())))
    assert set(defaults) - set(full) - set(ALONE) - HIDDEN == set()
    whole, plain = render(values=FULL), render()
    for path in full:
        flag = f"--set-json={path}={json.dumps(defaults.get(path))}"
        assert render(flag, *BESIDE.get(path, ()), values=FULL) != whole, f"{path} does nothing"
    for path, value in ALONE.items():
        assert render(f"--set-json={path}={json.dumps(value)}") != plain, f"{path} does nothing"


def test_prometheus_is_given_its_credentials_as_files() -> None:
    flags = ("--set=prometheus.url=http://p:9090", "--set=prometheus.tokenSecret=t")
    spec = pick(render(*flags), "Deployment", "weighbridge-operator")["spec"]["template"]["spec"]
    assert "--prometheus=http://p:9090" in spec["containers"][0]["args"]
    assert "--prometheus-token-file=/prometheus/token" in spec["containers"][0]["args"]
    (source,) = spec["volumes"][0]["projected"]["sources"]
    assert source["secret"] == {"name": "t", "items": [{"key": "token", "path": "token"}]}
    with pytest.raises(CommandError, match="two ways"):
        render(*flags, "--set=prometheus.user=u,prometheus.passwordSecret=p")
    with pytest.raises(CommandError, match="belong together"):
        render("--set=prometheus.user=u")


def list_leaves(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Paths as in values.schema.json; a mapping whose keys are the user's is one leaf."""
    free = ("podAnnotations", "podLabels", "nodeSelector", "annotations", "labels", "resources")
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict) and key not in free:
            found += list_leaves(value, f"{path}{key}.")
        else:
            found.append((f"{path}{key}", value))
    return found


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("--set=operator.replica=3", "replica"),
        ("--set=service.type=Loadbalancer", "type"),
        ("--set=envoy.concurrency=0", "concurrency"),
        ("--set=unknown=1", "unknown"),
        ("--set=watch.namespaces={Not_A_Namespace}", "watch"),
        ("--set=images.operator.digest=latest", "digest"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(flag: str, names: str) -> None:
    need_helm()
    with pytest.raises(CommandError, match=names):
        render(flag)


@pytest.mark.parametrize("values", [None, FULL], ids=["default", "full"])
def test_pods_pass_the_restricted_standard(values: Path | None) -> None:
    objects = render(values=values)
    specs = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
    specs += [o["spec"] for o in objects if o["kind"] == "Pod"]
    assert len(specs) >= 3
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("watch", ["", "{a,b}", "{*}"])
def test_rights_are_those_of_the_table(watch: str) -> None:
    objects = render(*([f"--set=watch.namespaces={watch}"] if watch else []))
    assert read_rules(pick(objects, "Role", "weighbridge-operator")) == as_rules(OWN + CERTIFICATES)
    kind, name = ("Role", "weighbridge-operator-objects")
    if watch == "{*}":
        kind, name = ("ClusterRole", "weighbridge-weighbridge-operator")
    roles = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert all(read_rules(role) == as_rules(OBJECTS) for role in roles)
    where = [role["metadata"].get("namespace") for role in roles]
    assert where == {"": ["weighbridge"], "{a,b}": ["a", "b", "weighbridge"], "{*}": [None]}[watch]
    assert ("ClusterRole" in {o["kind"] for o in objects}) == (watch == "{*}")


def test_where_data_planes_have_a_certificate_the_operator_may_write_that_secret_as_well() -> None:
    for flag, names in ((True, (*XDS, "weighbridge-xds-peers")), (False, XDS)):
        objects = render(f"--set=dataplane.enabled=true,dataplane.peers.enabled={str(flag).lower()}")
        assert read_rules(pick(objects, "Role", "weighbridge-operator")) == as_rules(OWN + CERTIFICATES, names)
        (operator,) = pick(objects, "Deployment", "weighbridge-operator")["spec"]["template"]["spec"]["containers"]
        assert ("--xds-tls-peers" in operator["args"]) == flag


def test_with_cert_manager_the_operator_writes_no_secret() -> None:
    role = pick(render("--set=certManager.enabled=true"), "Role", "weighbridge-operator")
    assert read_rules(role) == as_rules(OWN)


Rule = tuple[str, str, str, tuple[str, ...]]


def read_rules(role: dict[str, Any]) -> set[Rule]:
    return {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


XDS = ("weighbridge-xds", "weighbridge-xds-client")


def as_rules(table: tuple[Permission, ...], names: tuple[str, ...] = XDS) -> set[Rule]:
    return {(p.group, p.resource, verb, names if p.named else ()) for p in table for verb in p.verbs}


def test_grace_is_above_the_longest_answer() -> None:
    envoy = pick(render(), "Deployment", "weighbridge-envoy")["spec"]["template"]["spec"]
    longest = 15 * 60  # RoutePolicy's timeouts.total where nobody says otherwise
    assert envoy["terminationGracePeriodSeconds"] > longest


def test_the_data_plane_begins_before_envoy_ends_after_it_and_takes_no_pod_out_of_service() -> None:
    flags = ("--set=dataplane.enabled=true,dataplane.processes=3",)
    spec = pick(render(*flags), "Deployment", "weighbridge-envoy")["spec"]["template"]["spec"]
    bootstrap, *sidecars = spec["initContainers"]
    assert [each["name"] for each in sidecars] == ["dataplane", "dataplane-2", "dataplane-3"]
    assert all(each["restartPolicy"] == "Always" for each in sidecars)
    assert not any(name.endswith("Probe") for each in sidecars for name in each)
    sockets = {flag.partition("=")[2] for each in sidecars for flag in each["args"] if flag.startswith("--socket=")}
    assert sockets == {flag.partition("=")[2] for flag in bootstrap["args"] if flag.startswith("--dataplane-socket=")}
    assert len(sockets) == 3
    places = [flag for each in sidecars for flag in each["args"] if flag.startswith(("--listen=", "--metrics="))]
    assert len({place.rpartition(":")[2] for place in places}) == 6
    assert all(place.startswith(("--listen=127.0.0.1:", "--metrics=$(POD_IP):")) for place in places)
    with pytest.raises(CommandError, match="processes"):
        render("--set=dataplane.processes=9")


def test_data_planes_find_each_other_and_nobody_else_reaches_them() -> None:
    objects = render("--set=dataplane.enabled=true,dataplane.processes=2,certManager.enabled=true")
    spec = pick(objects, "Deployment", "weighbridge-envoy")["spec"]["template"]["spec"]
    _, *sidecars = spec["initContainers"]
    asked = [{f for f in each["args"] if f.startswith("--peer=")} for each in sidecars]
    assert asked == [{f"--peer=weighbridge-peers.weighbridge.svc:{port}" for port in (9940, 9941)}] * 2
    listening = [f for each in sidecars for f in each["args"] if f.startswith("--peer-listen=")]
    assert listening == ["--peer-listen=$(POD_IP):9940", "--peer-listen=$(POD_IP):9941"]
    assert all("--peer-processes=2" in each["args"] for each in sidecars)
    service = pick(objects, "Service", "weighbridge-peers")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert [each["port"] for each in service["ports"]] == [9940, 9941]
    assert service["selector"] == spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    rules = pick(objects, "NetworkPolicy", "weighbridge-envoy")["spec"]["ingress"]
    (opened,) = [rule for rule in rules if {"port": 9940} in rule["ports"]]
    assert opened == {
        "ports": [{"port": 9940}, {"port": 9941}],
        "from": [{"podSelector": {"matchLabels": service["selector"]}}],
    }
    certificate = pick(objects, "Certificate", "weighbridge-xds-peers")["spec"]
    assert (certificate["uris"], certificate["usages"]) == ([PEER_IDENTITY], ["server auth", "client auth"])
    mounted = next(each for each in spec["volumes"] if each["name"] == "peers")["secret"]
    assert mounted == {"secretName": certificate["secretName"], "optional": True}
    having = [
        each["name"]
        for each in (*spec["initContainers"], *spec["containers"])
        if "peers" in {mount["name"] for mount in each["volumeMounts"]}
    ]
    assert having == ["dataplane", "dataplane-2"], "Envoy has no need of that key"
    assert not any("tls" in {mount["name"] for mount in each["volumeMounts"]} for each in sidecars)


@pytest.mark.parametrize("flag", ["", "--set=dataplane.enabled=true,dataplane.peers.enabled=false"])
def test_without_peers_nothing_of_them_is_there(flag: str) -> None:
    for more in ((), ("--set=certManager.enabled=true",)):
        objects = [each for each in render(*([flag] if flag else []), *more) if "Custom" not in each["kind"]]
        assert "peer" not in yaml.safe_dump_all(objects)


def test_what_it_prints_is_for_monitoring_alone() -> None:
    peer = "--set=networkPolicy.monitoring[0].podSelector.matchLabels.app=prometheus"
    flags = ("--set=dataplane.enabled=true,dataplane.processes=2,monitors.enabled=true", peer)
    objects = render(*flags)
    rules = pick(objects, "NetworkPolicy", "weighbridge-envoy")["spec"]["ingress"]
    (opened,) = [rule for rule in rules if {"port": 9904} in rule["ports"]]
    assert opened == {
        "ports": [{"port": 9904}, {"port": 9906}],
        "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    }
    spec = pick(objects, "Deployment", "weighbridge-envoy")["spec"]["template"]["spec"]
    named = {p["name"]: p["containerPort"] for each in spec["initContainers"] for p in each.get("ports", ())}
    asked = pick(objects, "PodMonitor", "weighbridge-envoy")["spec"]["podMetricsEndpoints"]
    assert {each["port"] for each in asked} - {"stats"} == set(named)
    assert named == {"dataplane": 9904, "dataplane-2": 9906}
    closed = render(flags[0])
    assert not [r for r in pick(closed, "NetworkPolicy", "weighbridge-envoy")["spec"]["ingress"] if "9904" in str(r)]


def test_the_notes_name_the_secrets_that_the_entrance_waits_for() -> None:
    flags = ("--dry-run=client", "--namespace=gateway", "--set=entrance.tlsSecret=cert,entrance.keysSecret=callers")
    told = run(need_helm(), "install", "weighbridge", str(CHART), *flags).partition("NOTES:")[2]
    assert "kubectl -n gateway get secret cert callers " in told
    assert "WARNING" not in told
