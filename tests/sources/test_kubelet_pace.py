"""A kubelet looks at each container when it likes, some 18 s apart: between two looks the numbers are in use."""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge_operator.core.load import LoadView, fold
from weighbridge_operator.sources.merging import merge
from weighbridge_operator.sources.prometheus_answers import Wanted
from weighbridge_operator.sources.prometheus_fleet import Fleet
from weighbridge_operator.sources.prometheus_queries import PART, TIME
from weighbridge_operator.state import LoadRound

NODE = "lab/house/house-0"
POD = {"namespace": "lab", "pod": "house-0"}
EVERY, SCRAPE = 18.0, 5.0
PHASES = {"server": 0.0, "proxy": 9.0}  # seconds; when each container is looked at


class Kubelet:
    """What a Prometheus that scrapes it every 5 s answers at `now`; it stops looking at `ends`."""

    name, steps = "p:9090", 0

    def __init__(self) -> None:
        self.now, self.ends = 1000.0, float("inf")

    def to_monotonic(self, at: float) -> float:
        return at

    def ask(self, text: str) -> object:
        if "container_memory_working_set_bytes" not in text:
            return []
        scraped = self.now // SCRAPE * SCRAPE
        looked = {name: self._look(min(scraped, self.ends), phase) for name, phase in PHASES.items()}
        answer = [self._tell({PART: TIME}, min(looked.values()))]
        for name in PHASES:
            answer.append(self._tell({PART: "container_memory_working_set_bytes", "container": name}, 2.0e8))
            answer.append(self._tell({PART: "container_spec_memory_limit_bytes", "container": name}, 4.0e8))
        return answer

    def _look(self, at: float, phase: float) -> float:
        return (at - phase) // EVERY * EVERY + phase

    def _tell(self, labels: Mapping[str, str], value: float) -> object:
        return {"metric": {**POD, **labels}, "value": [self.now, str(value)]}


def follow(kubelet: Kubelet, fleet: Fleet, view: LoadView, seconds: float) -> tuple[LoadView, list[float]]:
    """The view after that time, and the moments at which the node had no numbers."""
    wanted = (Wanted(NODE, "openai", labels=tuple(sorted(POD.items())), required=False),)
    missing, end = [], kubelet.now + seconds
    while kubelet.now < end:
        if kubelet.now % SCRAPE == 0:
            for question in fleet.list_questions(wanted):
                fleet.ask(question)
            fleet.place(kubelet.now)
        found = fleet.tell(wanted, kubelet.now, None).get(NODE)
        sample = merge(None, found, None, NODE, kubelet.now)
        view = fold(view, LoadRound(kubelet.now, {NODE: sample}))
        if not view.load(NODE).fresh(kubelet.now):
            missing.append(kubelet.now)
        kubelet.now += 1.0
    return view, missing


def test_numbers_are_in_use_from_one_look_to_the_next() -> None:
    kubelet = Kubelet()
    fleet = Fleet(kubelet)
    view, missing = follow(kubelet, fleet, LoadView(), 300.0)
    assert missing == []
    kubelet.ends = kubelet.now
    view, missing = follow(kubelet, fleet, view, 90.0)
    assert missing, "a kubelet that looks no more is not believed for ever"
    assert "its newest numbers in Prometheus are" in (view.load(NODE).error or "")
