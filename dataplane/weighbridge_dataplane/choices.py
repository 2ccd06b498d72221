"""The last choices, each whole, for people who ask why: which node, or why none, and how every candidate was judged.

On the way of a request a reference is kept. A moment later, between requests, `settle` makes bytes of it, in which the
garbage collector finds nothing to look at: 10,000 choices as objects took it 28 ms, longer than a request waits for
its node. Bounded by number; some 600 bytes each with six nodes, 2 KB with 32. Of a request nothing is in it but its id
and size.
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from weighbridge_dataplane.exchange import Head
from weighbridge_dataplane.facts import Choice, Judged

KEPT = 20_000  # where nobody says how many
UNSETTLED = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One choice, at a Unix time. `failure` says why none was made."""

    at: float
    head: Head
    choice: Choice
    failure: str | None = None


class Choices:
    """Keeps the last `most`."""

    def __init__(self, most: int = KEPT) -> None:
        self.most = most
        self._new: list[Kept] = []
        self._settled: deque[tuple[str, float, bytes]] = deque(maxlen=most)

    def note(self, kept: Kept) -> None:
        self._new.append(kept)
        if len(self._new) >= UNSETTLED:
            self.settle()

    def settle(self) -> None:
        """Makes what was noted small; call it between requests."""
        new, self._new = self._new, []
        self._settled += ((each.head.request_id, each.at, _pack(each)) for each in new)

    def tell(self) -> dict[str, Any]:
        """How many are kept, and since when."""
        self.settle()
        since = round(self._settled[0][1], 3) if self._settled else None
        return {"kept": len(self._settled), "most": self.most, "since": since}

    def find(self, last: int, request_id: str | None, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The last choices that are kept now, the newest first, each as JSON has it and made when it is asked for.

        With a request's id those of that request. `names` has each address's node.
        """
        self.settle()
        found = (data for known, _, data in reversed(self._settled) if request_id in (None, known))
        kept = list(islice(found, last))
        return (_unpack(data, names) for data in kept)


def _pack(kept: Kept) -> bytes:
    asked, member, policy = kept.head.asked, kept.choice.member, kept.head.policy
    told = (
        round(kept.at, 3),
        kept.head.request_id,
        policy.clusters if policy else (),
        member.node if member else None,
        member.address if member else None,
        member.cluster if member else None,
        None if member else kept.failure or kept.choice.silence,
        asked.size,
        len(asked.blocks),
        asked.session is not None,
        kept.choice.known,
        kept.choice.home,
        kept.choice.rows,
    )
    return marshal.dumps(told)


_FIELDS = ("at", "request", "clusters", "node", "address", "cluster", "silence", "size", "blocks", "session", "known")


def _unpack(data: bytes, names: Mapping[str, str]) -> dict[str, Any]:
    *told, home, rows = marshal.loads(data)  # noqa: S302  bytes of our own
    candidates = [_describe(Judged(*row), names, home) for row in rows]
    return dict(zip(_FIELDS, told, strict=True)) | {"candidates": candidates}


def _describe(judged: Judged, names: Mapping[str, str], home: str | None) -> dict[str, Any]:
    return {
        "address": judged.address,
        "node": names.get(judged.address),
        "load": round(judged.load, 4),
        "fill": round(judged.fill, 4),
        "backlog": round(judged.backlog, 4),
        "saved": round(max(0.0, judged.fill * judged.fill + judged.backlog - judged.load), 4),
        "hit": round(judged.hit, 1),
        "home": judged.address == home,
        "by": "count" if judged.by_count else "page",
    }
