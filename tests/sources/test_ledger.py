"""What is known of a kind: newer wins, a deletion stays deleted, an absence is only a question."""

from __future__ import annotations

from typing import Any

from support.corpus import build_node
from weighbridge_api.modelnode import ModelNode
from weighbridge_operator.sources.kube.ledger import Ledger, read_version
from weighbridge_operator.state import Ref


def node(name: str, version: int, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    made = build_node(spec)
    made["metadata"] |= {"name": name, "namespace": namespace, "resourceVersion": str(version), "generation": version}
    return made


def ref(name: str, namespace: str = "default") -> Ref:
    return Ref("ModelNode", namespace, name)


def names(ledger: Ledger) -> list[str]:
    return [item.metadata.name for item in ledger.objects]


def test_what_is_older_than_what_is_known_is_no_news() -> None:
    ledger = Ledger(ModelNode)
    assert ledger.take(node("a", 5, tier="high"))
    assert not ledger.take(node("a", 4))
    assert not ledger.take(node("a", 5))
    assert [item.spec.tier for item in ledger.objects if isinstance(item, ModelNode)] == ["high"]


def test_a_newer_form_that_asks_for_the_same_is_no_change() -> None:
    ledger = Ledger(ModelNode)
    made = node("a", 5)
    ledger.take(made)
    made["metadata"]["resourceVersion"] = "6"
    made["status"] = {"conditions": []}
    assert not ledger.take(made)


def test_a_list_that_is_older_than_a_deletion_does_not_undo_it_and_a_new_object_of_the_name_counts() -> None:
    ledger = Ledger(ModelNode)
    ledger.take(node("a", 5))
    assert ledger.drop(node("a", 7))
    assert not ledger.take(node("a", 5))
    assert names(ledger) == []
    assert ledger.take(node("a", 8))
    assert not ledger.drop(node("a", 7))  # of the first one, late
    assert names(ledger) == ["a"]


def test_what_a_list_lacks_is_a_question_and_what_came_after_the_list_is_not_lacking() -> None:
    ledger = Ledger(ModelNode)
    for made in (node("a", 5), node("b", 6), node("c", 20), node("d", 7, "other")):
        ledger.take(made)
    assert ledger.find_absent("default", [ref("a")], 10) == {ref("b")}
    assert ledger.find_absent(None, [ref("a")], 10) == {ref("b"), ref("d", "other")}
    assert len(names(ledger)) == 4
    assert ledger.forget(ref("b"))
    assert names(ledger) == ["a", "c", "d"]


def test_a_cluster_that_was_set_back_is_believed_anew() -> None:
    ledger = Ledger(ModelNode)
    ledger.take(node("a", 50, tier="high"))
    ledger.find_absent(None, [ref("a")], 60)
    assert not ledger.take(node("a", 10))
    ledger.find_absent(None, [ref("a")], 20)
    assert ledger.take(node("a", 10))


def test_an_invalid_form_is_a_rejection_and_the_last_good_one_is_held() -> None:
    ledger = Ledger(ModelNode)
    ledger.take(node("a", 5))
    assert ledger.take(node("a", 6, engine="later"))
    assert ledger.take(node("b", 7, engine="later"))
    told = {each.ref.name: (each.held, each.generation) for each in ledger.rejections}
    assert told == {"a": (True, 6), "b": (False, 7)}
    assert names(ledger) == ["a"]
    assert "spec.engine: must be" in next(iter(ledger.rejections)).message
    assert ledger.take(node("a", 8))
    assert [each.ref.name for each in ledger.rejections] == ["b"]


def test_a_key_that_an_older_operator_does_not_know_is_dropped() -> None:
    ledger = Ledger(ModelNode)
    ledger.take(node("a", 5, novelty=1))
    assert names(ledger) == ["a"]
    assert list(ledger.rejections) == []


def test_a_version_that_is_no_number_is_none() -> None:
    assert read_version({"metadata": {"resourceVersion": "abc"}}) == 0
    assert read_version({}) == 0
