"""What Envoys are told depends on the objects alone, never on the way there: edits end like a fresh start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_operator.core.resolve import Resolved, resolve
from weighbridge_operator.core.scope import Scope
from weighbridge_operator.sources.files import Loaded, settle
from weighbridge_operator.sources.listing import FileText
from weighbridge_operator.xds.listener import Entrance
from weighbridge_operator.xds.memo import Memo
from weighbridge_operator.xds.snapshot import Snapshot
from weighbridge_operator.xds.translate import translate

FILES = ("a.yaml", "b.yaml")
NAMES = ("one", "two", "three", "four")
MODELS = ("m", "n", "big-m")
Form = dict[str, Any]


def describe(kind: str, name: str, spec: Form, labels: Form | None = None) -> Form:
    metadata: Form = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "weighbridge.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


models = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(MODELS)},
        optional={
            "version": st.sampled_from(("1", "2")),
            "servedAs": st.sampled_from(("x/own", "m")),
            "types": st.sampled_from((["text"], ["embedding"], ["embedding", "text"])),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda model: (model["name"], model.get("version")),
)
node_specs = st.fixed_dictionaries(
    {
        "engine": st.sampled_from(("vllm", "openai")),
        "address": st.fixed_dictionaries(
            {"host": st.just("10.0.0.1"), "port": st.integers(8000, 8003)},
            optional={"path": st.sampled_from(("/v1", "/v2", "/"))},
        ),
        "models": models,
    },
    optional={
        "capacity": st.sampled_from((1, 2.5)),
        "health": st.just({"path": "/up", "interval": "3s"}),
        "tls": st.sampled_from(({}, {"caSecretRef": {"name": "keys"}, "serverName": "node.internal"})),
        "credentials": st.just({"secretRef": {"name": "keys", "key": "apiKey"}}),
    },
)
policy_specs = st.fixed_dictionaries(
    {},
    optional={
        "match": st.fixed_dictionaries(
            {},
            optional={
                "models": st.sampled_from((["m"], ["big-*"], ["*"])),
                "headers": st.sampled_from(({"x-team": "a"}, {"x-team": "b", "x-day": "c"})),
            },
        ),
        "nodes": st.just({"matchLabels": {"pool": "chat"}}),
        "balance": st.sampled_from(({"profile": "classic"}, {"profile": "llm"}, {"precise": True})),
        "defaultModel": st.sampled_from(MODELS),
        "versions": st.just([{"version": "1", "share": 90}, {"version": "2", "share": 10}]),
        "fallback": st.sampled_from(([{"model": "n"}], [{"model": "m"}, {"model": "n"}])),
        "retry": st.just({"attempts": 1, "budget": "50%"}),
        "timeouts": st.just({"total": "1m"}),
    },
)
labels = st.sampled_from((None, {"pool": "chat"}))
nodes = st.builds(describe, st.just("ModelNode"), st.sampled_from(NAMES), node_specs, labels)
policies = st.builds(describe, st.just("RoutePolicy"), st.sampled_from(NAMES), policy_specs)
secrets = st.builds(
    lambda value: {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"apiKey": value, "ca.crt": f"certificate {value}"},
    },
    st.sampled_from(("a", "b")),
)
valid = st.lists(
    st.one_of(nodes, nodes, policies, secrets),
    max_size=6,
    unique_by=lambda item: (item["kind"], item["metadata"]["name"]),
)
broken = st.sampled_from(
    ("kind: ModelNode\nmetadata: {name: one}\nspec: {engine: odd}\n", "a: [", "kind: RoutePolicy\nmetadata: {}\n")
)
edits = st.lists(st.tuples(st.sampled_from(FILES), st.one_of(valid, broken)), max_size=6)


def read(disk: dict[str, str], held: Loaded) -> Loaded:
    return settle([FileText(name, disk[name].encode(), private=True) for name in sorted(disk)], held.objects)


class Teller:
    """What Envoys are told, step by step: each from what the one before has left."""

    def __init__(self) -> None:
        self.resolved: Resolved | None = None
        self._memo = Memo()

    def tell(self, loaded: Loaded) -> Snapshot:
        self.resolved = resolve(replace(loaded.desired, authorities=b"pem"), Scope(), self.resolved)
        secrets = loaded.desired.secrets
        return translate(self.resolved.gateway, {}, secrets, Entrance(), b"salt", memo=self._memo, authorities=b"pem")


def tell(loaded: Loaded) -> Snapshot:
    return Teller().tell(loaded)


@settings(max_examples=40)
@given(edits, valid)
def test_any_sequence_of_edits_ends_like_a_fresh_start(steps: list[tuple[str, Any]], final: list[Form]) -> None:
    disk: dict[str, str] = {}
    loaded, teller, afresh = Loaded(), Teller(), Teller()
    for name, content in steps:
        disk[name] = content if isinstance(content, str) else yaml.safe_dump_all(content)
        loaded = read(disk, loaded)
        assert teller.tell(loaded) == tell(loaded)
    disk = dict.fromkeys(disk, "# nothing\n") | {FILES[0]: yaml.safe_dump_all(final) or "# nothing\n"}
    ended, fresh = teller.tell(read(disk, loaded)), afresh.tell(read(disk, Loaded()))
    assert ended == fresh
    assert ended.version == fresh.version
    assert teller.resolved == afresh.resolved


@settings(max_examples=15)
@given(valid, st.randoms(use_true_random=False))
def test_neither_order_nor_place_of_the_objects_matters(objects: list[Form], random: Any) -> None:
    whole = tell(read({FILES[0]: yaml.safe_dump_all(objects)}, Loaded()))
    random.shuffle(objects)
    half = len(objects) // 2
    parted = {FILES[0]: yaml.safe_dump_all(objects[:half]), FILES[1]: yaml.safe_dump_all(objects[half:])}
    assert tell(read(parted, Loaded())) == whole
