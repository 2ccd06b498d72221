"""The last choices: each whole, found by the request's id, bounded, and nothing that the collector looks at."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from typing import Any

from weighbridge_dataplane.choices import KEPT, UNSETTLED, Choices, Kept
from weighbridge_dataplane.exchange import Head, Policy
from weighbridge_dataplane.facts import Asked, Choice, Member

HEAD = Head(Policy(("p",)), Asked(12, "a customer", ("0123abcd",)), "id")
ROW = ("10.0.0.1:80", 0.3, 0.4, 0.2, 7.0, False)
COUNTED = ("10.0.0.2:80", 0.5625, 0.75, 0.0, 0.0, True)
NAMES = {"10.0.0.1:80": "default/a"}


def named(request_id: str = "id", at: float = 1_000.5) -> Kept:
    head = Head(HEAD.policy, HEAD.asked, request_id)
    member = Member("10.0.0.1:80", "p", "default/a", "vllm")
    return Kept(at, head, Choice(member, None, (ROW, COUNTED), known="home", home="10.0.0.1:80"))


def ids(told: Iterable[dict[str, Any]]) -> list[str]:
    return [each["request"] for each in told]


def test_a_choice_is_told_with_its_parts_and_no_more_of_the_request() -> None:
    choices = Choices()
    choices.note(named())
    assert choices.tell() == {"kept": 1, "most": KEPT, "since": 1000.5}
    (choice,) = json.loads(text := json.dumps(list(choices.find(1, None, NAMES))))
    assert "a customer" not in text
    assert "0123abcd" not in text
    first, second = choice.pop("candidates")
    assert choice == {
        "at": 1000.5,
        "request": "id",
        "clusters": ["p"],
        "node": "default/a",
        "address": "10.0.0.1:80",
        "cluster": "p",
        "silence": None,
        "size": 12,
        "blocks": 1,
        "session": True,
        "known": "home",
    }
    assert first == {
        "address": "10.0.0.1:80",
        "node": "default/a",
        "load": 0.3,
        "fill": 0.4,
        "backlog": 0.2,
        "saved": 0.06,
        "hit": 7.0,
        "home": True,
        "by": "page",
    }
    assert (second["node"], second["by"], second["saved"], second["home"]) == (None, "count", 0.0, False)


def test_silence_is_told_with_its_reason() -> None:
    choices = Choices()
    choices.note(Kept(1.0, HEAD, Choice(None, "few")))
    choices.note(Kept(2.0, Head(None, Asked(), ""), Choice(None, None), "policy"))
    broken, few = choices.find(9, None, NAMES)
    assert (few["silence"], few["node"], few["candidates"]) == ("few", None, [])
    assert (broken["silence"], broken["clusters"], broken["size"]) == ("policy", (), None)


def test_the_last_are_kept_and_found_by_id_and_it_is_said_since_when() -> None:
    choices = Choices(100)
    assert choices.tell() == {"kept": 0, "most": 100, "since": None}
    assert not list(choices.find(5, None, NAMES))
    for number in range(110):
        choices.note(named(str(number), float(number)))
    assert ids(choices.find(2, None, NAMES)) == ["109", "108"]
    assert ids(choices.find(9, "50", NAMES)) == ["50"]
    assert not list(choices.find(9, "5", NAMES))
    assert choices.tell() == {"kept": 100, "most": 100, "since": 10.0}


def test_what_is_told_is_of_when_it_was_asked_for_and_of_any_size() -> None:
    choices = Choices(2)
    huge = Choice(
        Member("10.0.0.1:80", "p", "default/a", "vllm"), None, (("10.0.0.1:80", 1e300, 1e200, 0.0, 0.0, False),)
    )
    choices.note(Kept(1.0, HEAD, huge))
    found = choices.find(2, None, NAMES)
    for number in range(2):
        choices.note(named(str(number)))
    choices.settle()
    (told,) = found
    assert told["candidates"][0]["fill"] == 1e200


def test_it_stays_small_where_nobody_settles() -> None:
    choices = Choices(10)
    for number in range(3 * UNSETTLED):
        choices.note(named(str(number)))
        assert len(choices._new) < UNSETTLED
    assert ids(choices.find(1, None, NAMES)) == [str(3 * UNSETTLED - 1)]


def test_what_is_kept_is_nothing_that_the_collector_looks_at() -> None:
    choices = Choices()
    for number in range(5_000):
        choices.note(named(str(number)))
    choices.settle()
    gc.collect()
    assert not any(gc.is_tracked(each) for each in choices._settled)
    assert max(len(data) for _, _, data in choices._settled) < 1_000
