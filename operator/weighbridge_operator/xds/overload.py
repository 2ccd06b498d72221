"""What an Envoy does before its memory is used up: it refuses, and is not killed with everything that it carries.

Above the first mark no new request is let in (503 with Retry-After); above the second, requests whose body is still
coming are ended, because those let in before would fill the rest. What waits for its answer, or streams it, goes on.
https://www.envoyproxy.io/docs/envoy/latest/configuration/operations/overload_manager/overload_manager
"""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]

LEAST = 512 * 2**20  # bytes; with less, hardly anything would be left for requests
#: What is not the heap's: the program, the scripts' copies of large bodies, what comes in between two looks. And the
#: part of the memory from which that is taken: free pages are given back late. Measured: docs/sizing.md.
BESIDE, HEAP = 256 * 2**20, 0.8
REFUSE, END = 0.90, 0.95  # of the heap
REFRESH = "0.1s"  # at 1 GB a second no more than 100 MB come in between two looks
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_MONITORS = "envoy.extensions.resource_monitors"
_HEAP = "envoy.resource_monitors.fixed_heap"


def read_size(text: str) -> int:
    """Bytes of a Kubernetes quantity. Raises ValueError with a remedy."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size; write it as Kubernetes does, for example 1Gi")
    return int(float(found[1]) * _UNITS[found[2]])


def manage_overload(connections: int, memory: int | None) -> Json:
    """What a bootstrap says of it. `memory`: bytes that the process may take; None lets it take what there is.

    Raises ValueError where a number won't do.
    """
    if not 0 < connections < 2**63:
        raise ValueError("the number of connections must be above 0")
    monitors = [
        _monitor(
            "envoy.resource_monitors.global_downstream_max_connections",
            f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
            {"max_active_downstream_connections": connections},
        )
    ]
    if memory is None:
        return {"overload_manager": {"resource_monitors": monitors}}
    if not LEAST <= memory < 2**63:
        raise ValueError(f"the memory must be at least {LEAST >> 20}Mi")
    size = {"max_heap_size_bytes": int(HEAP * memory) - BESIDE}
    monitors.append(_monitor(_HEAP, f"{_MONITORS}.fixed_heap.v3.FixedHeapConfig", size))
    ends = {"name": _HEAP, "scaled": {"scaling_threshold": END, "saturation_threshold": 1.0}}
    return {
        "overload_manager": {
            "refresh_interval": REFRESH,
            "resource_monitors": monitors,
            # Streams are known by what they hold, from 1 MiB on.
            "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
            "actions": [
                _when("envoy.overload_actions.stop_accepting_requests", _above(REFUSE)),
                _when("envoy.overload_actions.reset_high_memory_stream", ends),  # HTTP/2, the largest first
            ],
            "loadshed_points": [_when("envoy.load_shed_points.http1_server_abort_dispatch", _above(END))],
        },
        # Without this, pages that are free stay with the process, and count.
        "memory_allocator_manager": {"bytes_to_release": 64 * 2**20, "memory_release_interval": "0.25s"},
    }


def _above(mark: float) -> Json:
    return {"name": _HEAP, "threshold": {"value": mark}}


def _when(name: str, trigger: Json) -> Json:
    return {"name": name, "triggers": [trigger]}


def _monitor(name: str, kind: str, settings: Json) -> Json:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **settings}}
