"""What Prometheus is asked, as data: one text for each exporter, or signal of it, and the whole fleet. Pure.

An instant query answers with the moment of asking as the time of every value, so the texts are of two forms that tell
the age of the numbers. `raw` is a selector of all families of an exporter with a range, and brings samples as they were
scraped; one query sees one instant of the database, so that running and waiting requests belong together. `dated` is
for what has too many series (a machine of 64 CPUs has 512): Prometheus adds them up, and beside the sums, marked by the
label `weighbridge`, stand the timestamps of what was added. Shares of counters are computed here from two answers, as
they are from two scrapes (signals.py), never by rate(), whose window hides the age.

A user's own query is either a selector, which is asked raw, or any expression together with a second one that gives the
Unix time of its numbers, as `min(timestamp(my_queue))`. An expression alone has no age: Prometheus refuses a range over
it ("ranges only allowed for vector selectors"), which is how one is told from the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from weighbridge_metrics.engines import CONTAINERS, DCGM, ENGINES, NODE_EXPORTER
from weighbridge_metrics.ways import Table, families, narrow

#: The label that tells the parts of a dated answer apart, and its value on the timestamps.
PART: Final = "weighbridge"
TIME: Final = "time"
#: Seconds that a raw query looks back: at first what scrapes each minute need, then what the exporter's pace asks.
WINDOW_MINIMUM, WINDOW_MAXIMUM = 15.0, 150.0
#: A kubelet looks at each container by itself: every 10 to 15 s as it is set, up to 25 s where it is busy.
KUBELET: Final = 18.0
PODS_MAXIMUM: Final = 500  # pods that a text names one by one; above them their namespaces alone


@dataclass(frozen=True, slots=True)
class Query:
    """One text. Later ones of a list never replace a signal that an earlier one gave."""

    name: str  # exporter, and signal where it is one of several
    form: Literal["raw", "dated"]
    table: Table  # by which the answer is read
    text: str  # @WINDOW@, @PODS@, @EXPORTED@ and @BY@ are filled in
    engine: str | None = None  # only where nodes run it
    every: float = 0.0  # seconds between two looks of the exporter itself, which Prometheus can't hasten

    @property
    def of_pods(self) -> bool:
        return "@PODS" in self.text

    def concerns(self, engine: str, pod: bool) -> bool:
        """Whether a node of this engine, a pod or not, is to be found in the answer."""
        return self.engine in (None, engine) and (pod or not self.of_pods)


def list_queries(engines: Iterable[str], pods: Sequence[tuple[str, str]]) -> tuple[Query, ...]:
    """What to ask for nodes of these engines, some of which are these pods (namespace, name)."""
    wanted = frozenset(engines)
    own = tuple(query for query in ENGINE_QUERIES if query.engine in wanted)
    return (*own, *(CONTAINER_QUERIES if pods else ()), *MACHINE_QUERIES)


def spell_query(query: Query, window: float, pods: Sequence[tuple[str, str]], names: Iterable[str] = ()) -> str:
    """The text to send; `window` in seconds, `names` those of the labels by which pods are found."""
    kept = sorted({"namespace", "pod", *names})
    text = query.text.replace("@WINDOW@", f"{round(window)}s").replace("@BY@", ", ".join((*kept, *_exported(kept))))
    return text.replace("@PODS@", _match_pods(pods, "")).replace("@EXPORTED@", _match_pods(pods, "exported_"))


def _exported(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"exported_{name}" for name in names)


def spell_range(selector: str, window: float) -> str:
    """A user's selector, asked raw."""
    return f"{selector.strip()}[{round(window)}s]"


def _match_pods(pods: Sequence[tuple[str, str]], prefix: str) -> str:
    spaces = _any_of(sorted({space for space, _ in pods}))
    found = f'{prefix}namespace=~"{spaces}"'
    names = sorted({name for _, name in pods})
    return f'{found},{prefix}pod=~"{_any_of(names)}"' if len(names) <= PODS_MAXIMUM else f'{found},{prefix}pod!=""'


def _any_of(names: Sequence[str]) -> str:
    # Twice: for the regular expression, and for the string it stands in.
    return "|".join(re.escape(name) for name in names).replace("\\", "\\\\").replace('"', '\\"')


def _raw(name: str, table: Table, engine: str | None = None) -> Query:
    return Query(name, "raw", table, f'{{__name__=~"{"|".join(sorted(families((table,))))}"}}[@WINDOW@]', engine)


def _mark(expression: str, part: str) -> str:
    return f'label_replace({expression}, "{PART}", "{part}", "", "")'


def _join(parts: Iterable[str]) -> str:
    return " or ".join(parts)


def _cpu_of_machines() -> str:
    """Seconds by mode, summed over the CPUs."""
    names = ("node_cpu_seconds_total", "node_cpu")
    sums = [_mark(f"sum without (cpu) ({name})", name) for name in names]
    return _join([*sums, *(_mark(f"min without (cpu, mode) (timestamp({name}))", TIME) for name in names)])


def _of_containers(used: str, limits: Sequence[tuple[str, str]]) -> str:
    """Use and limits by container; labels of the exporter's own target may have pushed the container's aside.

    The greatest, not the sum: a kubelet that two jobs scrape counts once.
    """
    # Not the pod as a whole and its pause: they are looked at when nobody cares, and would make it old.
    own = 'container!~"|POD",exported_container!="POD"'
    selectors = f"{used}{{@PODS@,{own}}}", f"{used}{{@EXPORTED@,{own}}}"
    by = "by (@BY@, container, exported_container)"
    parts = [_mark(f"max {by} ({_join(selectors)})", used)]
    parts.append(_mark(f"min by (@BY@) ({_join(f'timestamp({each})' for each in selectors)})", TIME))
    return _join([*parts, *(_mark(f"max {by} ({limit})", name) for name, limit in limits)])


def _limits(resource: str, unit: str, older: str) -> tuple[tuple[str, str], ...]:
    name, kind = "kube_pod_container_resource_limits", f'resource="{resource}",unit="{unit}"'
    old = f"{name}_{older}"
    return (
        (name, f"{name}{{{kind},@PODS@}} or {name}{{{kind},@EXPORTED@}}"),
        (old, f"{old}{{@PODS@}} or {old}{{@EXPORTED@}}"),
    )


_QUOTA: Final = _join(
    f"container_spec_cpu_quota{{{pods}}} / container_spec_cpu_period{{{pods}}}" for pods in ("@PODS@", "@EXPORTED@")
)
_MEMORY: Final = _join(f"container_spec_memory_limit_bytes{{{pods}}}" for pods in ("@PODS@", "@EXPORTED@"))

ENGINE_QUERIES: Final = tuple(_raw(name, table, name) for name, table in sorted(ENGINES.items()))
CONTAINER_QUERIES: Final = (
    Query(
        "containers cpu",
        "dated",
        narrow(CONTAINERS, "cpu"),
        _of_containers(
            "container_cpu_usage_seconds_total",
            (*_limits("cpu", "core", "cpu_cores"), ("container_spec_cpu_quota", _QUOTA)),
        ),
        every=KUBELET,
    ),
    Query(
        "containers memory",
        "dated",
        narrow(CONTAINERS, "memory"),
        _of_containers(
            "container_memory_working_set_bytes",
            (*_limits("memory", "byte", "memory_bytes"), ("container_spec_memory_limit_bytes", _MEMORY)),
        ),
        every=KUBELET,
    ),
)
MACHINE_QUERIES: Final = (
    _raw("DCGM", DCGM),
    Query("node_exporter cpu", "dated", narrow(NODE_EXPORTER, "cpu"), _cpu_of_machines()),
    _raw("node_exporter memory", narrow(NODE_EXPORTER, "memory")),
)
