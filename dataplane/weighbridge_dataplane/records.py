"""What became of requests: counters for `/metrics`, and through `choices` the last of them for people who ask why.

On the way of a request only references are kept; text is made when somebody asks. Clusters beyond the most are counted
as one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import get_args

from weighbridge_dataplane.choices import KEPT, Choices, Kept
from weighbridge_dataplane.facts import Known

CLUSTERS_MAXIMUM = 1_000
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)  # seconds
OTHER = "other"
#: Why a connection with another data plane was refused or ended: its certificate or it is not a data plane's, what it
#: says can't be understood, there are too many, it does not take what it is told, it says nothing.
REFUSALS = ("certificate", "word", "many", "slow", "still")
UNREADABLE, FAILED = "policy", "error"  # reasons of silence beside the chooser's own


@dataclass(frozen=True, slots=True)
class Levels:
    """How fresh the inputs are: seconds, None where there is none yet."""

    nodes: int = 0
    fresh: int = 0  # nodes with a sample young enough to count
    oldest: float | None = None
    counts: float | None = None
    period: float = 0.0
    in_time: bool = True
    peers: int | None = None  # other data planes that are heard
    peers_told: int | None = None  # and those that take what we tell
    peer_envoys: int | None = None  # Envoys besides its own, all of whose data planes are heard


class Records:
    """Mutable; of one process. Of choices the last `kept` can be asked for."""

    def __init__(self, kept: int = KEPT) -> None:
        self.named: dict[str, int] = {}
        self.silent: dict[str, int] = dict.fromkeys(("unknown", "stale", "few", "none", UNREADABLE, FAILED), 0)
        self.known: dict[str, int] = dict.fromkeys(get_args(Known), 0)
        self.samples: dict[str, int] = {"read": 0, "failed": 0, "skipped": 0}
        self.pages: dict[str, int] = {"read": 0, "failed": 0}
        self.peer_untold: dict[str, int] = {"blocks": 0, "all": 0}
        self.peer_frames: dict[str, int] = {"in": 0, "out": 0}
        self.peer_refusals: dict[str, int] = dict.fromkeys(REFUSALS, 0)
        self.choices = Choices(kept)
        self._seconds = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def note(self, kept: Kept, seconds: float) -> None:
        """Takes a request that was answered within `seconds`."""
        member = kept.choice.member
        if member is None:
            reason = kept.failure or kept.choice.silence or "none"
            self.silent[reason] += 1
        else:
            name = member.cluster if member.cluster in self.named or len(self.named) < CLUSTERS_MAXIMUM else OTHER
            self.named[name] = self.named.get(name, 0) + 1
        if (known := kept.choice.known) is not None:
            self.known[known] += 1
        self.choices.note(kept)
        self._seconds[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def print_metrics(self, levels: Levels, cpu: float) -> str:
        """Exposition text. `cpu`: seconds that this process took."""
        lines = [
            *_print_family("named_total", "Requests for which a node was named.", "cluster", self.named),
            *_print_family("silent_total", "Requests that were left to the weights.", "reason", self.silent),
            *_print_family("beginnings_total", "Requests with a beginning, by whose memory.", "known", self.known),
            *_print_family("samples_total", "Readings of nodes' pages.", "result", self.samples),
            *_print_family("envoy_pages_total", "Readings of the Envoy beside it.", "result", self.pages),
            *_print_gauge("nodes", "Nodes among which is chosen.", levels.nodes),
            *_print_gauge("fresh_nodes", "Of them, those with a sample of the last 1.5 s.", levels.fresh),
            *_print_gauge("oldest_sample_seconds", "Age of the oldest last sample.", levels.oldest),
            *_print_gauge("counts_age_seconds", "Age of Envoy's own counts.", levels.counts),
            *_print_gauge("sampling_period_seconds", "Time between two samples of a node.", levels.period),
            *_print_gauge("in_time", "0: it gets its turn late too often, and tells Envoy not to ask.", levels.in_time),
            *([] if levels.peers is None else self._print_peers(levels)),
            *self._print_seconds(),
            "# HELP process_cpu_seconds_total CPU time of the process.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {cpu:.3f}",
        ]
        return "\n".join(lines) + "\n"

    def _print_peers(self, levels: Levels) -> list[str]:
        return [
            *_print_gauge("peers", "Other data planes that are heard.", levels.peers),
            *_print_gauge("peers_told", "Other data planes that are told what is sent.", levels.peers_told),
            *_print_gauge("peer_envoys", "Other Envoys, all of whose data planes are heard.", levels.peer_envoys),
            *_print_family("peer_frames_total", "Words from and to other data planes.", "way", self.peer_frames),
            *_print_family("peer_untold_total", "Requests' beginnings too many to be told.", "part", self.peer_untold),
            *_print_family("peer_refusals_total", "Connections refused or ended.", "reason", self.peer_refusals),
        ]

    def _print_seconds(self) -> list[str]:
        name = "weighbridge_dataplane_request_seconds"
        lines = [f"# HELP {name} Time from a request's head to the answer.", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._seconds, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


def _print_family(name: str, meaning: str, label: str, values: dict[str, int]) -> list[str]:
    full = f"weighbridge_dataplane_{name}"
    head = [f"# HELP {full} {meaning}", f"# TYPE {full} counter"]
    return head + [f"{full}{{{label}={json.dumps(key)}}} {value}" for key, value in sorted(values.items())]


def _print_gauge(name: str, meaning: str, value: float | None) -> list[str]:
    full = f"weighbridge_dataplane_{name}"
    return [] if value is None else [f"# HELP {full} {meaning}", f"# TYPE {full} gauge", f"{full} {value:.6g}"]
