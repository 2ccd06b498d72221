"""Decisions in words, from recorded facts alone, so that they can be told long after they were made."""

from __future__ import annotations

from weighbridge_metrics.sample import SCRAPE
from weighbridge_operator.core.verdict import NodeFacts, Verdict

OLD = 5.0  # seconds; younger numbers are as they should be


def explain(verdict: Verdict, node: str, now: float) -> str:
    """One sentence: why the node has its weight."""
    facts = verdict.facts[node]
    clauses = [clause for clause in _clauses(verdict, facts, now) if clause]
    return f"{_weight(verdict, facts)}: {', '.join(clauses)}"


def number(value: float) -> str:
    """A figure with the digits that mean something: 0.35, 2.5, 12, 1,850."""
    size = abs(value)
    if size >= 100 or (size >= 10 and round(value, 1) == round(value)):
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if size >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def _weight(verdict: Verdict, facts: NodeFacts) -> str:
    if len(verdict.weights) == 1:
        return "the pool's only node"
    if verdict.equal:
        return f"weight {facts.weight}, equal to all"
    return f"weight {facts.weight} of {verdict.total}"


def _clauses(verdict: Verdict, facts: NodeFacts, now: float) -> list[str]:
    guard = verdict.guard_until
    return [
        _room(facts),
        _trim(facts),
        _others(verdict, facts),
        _speed(verdict, facts),
        f"score {number(facts.score.value)}" if facts.score else "",
        _news(facts),
        f"others' load is ignored for {number(guard - now)} s because it swung" if guard and guard > now else "",
        facts.finding or "",
    ]


def _room(facts: NodeFacts) -> str:
    match facts.room_source:
        case "given":
            return f"room {number(facts.capacity)} times the median's (capacity {number(facts.room_raw or 0)} given)"
        case "published":
            return (
                f"room {number(facts.capacity)} times the median's ({number(facts.room_raw or 0)} KV tokens published)"
            )
        case "converted":
            of = f"{number(facts.room_raw or 0)} by its KV tokens, in the unit of the capacities given"
            return f"room {number(facts.capacity)} times the median's ({of})"
        case "not short":
            known = f"{number(facts.room_raw)} KV tokens published" if facts.room_raw else "KV tokens not known yet"
            return f"room as all ({known}, and KV is not short)"
        case "smallest known":
            return f"room {number(facts.capacity)} times the median's (not known yet, the pool's smallest is assumed)"
        case "default":
            return "room as all" if facts.trimmed == 1 else f"room {number(facts.capacity)} of all"


def _trim(facts: NodeFacts) -> str:
    if facts.trimmed == 1:
        return ""
    than = "fuller" if facts.trimmed < 1 else "emptier"
    return f"its room counts {number(facts.trimmed)} because it stays {than} than the others at the same requests"


def _others(verdict: Verdict, facts: NodeFacts) -> str:
    if verdict.profile == "classic":
        if facts.u < 1:
            return f"{number(facts.excess)} points of load are not ours and leave {number(facts.u)} of its share"
        return ""
    if facts.u < 1:
        return f"others hold {number(facts.others)} requests here and leave {number(facts.u)} of its share"
    return "nobody else's requests weigh here" if not verdict.equal else ""


def _speed(verdict: Verdict, facts: NodeFacts) -> str:
    if verdict.equal or facts.s == 1:
        return ""
    return f"speed {number(facts.s)} times the median's"


def _news(facts: NodeFacts) -> str:
    match facts.suspicion:
        case "reports idle":
            return f"it reports idle while {number(facts.own)} of our requests are on it, so its numbers are not used"
        case "frozen":
            return f"its numbers stand still while {number(facts.own)} of our requests are on it and are not used"
        case "none":
            pass
    if facts.fresh:
        of = "" if facts.source in (None, SCRAPE) else f" from {facts.source}"
        told = f"numbers{of} {number(facts.age)} s old" if facts.age is not None and (of or facts.age >= OLD) else ""
        lacks = f"some are missing ({facts.error})" if facts.error else ""
        return ", ".join(filter(None, (told, lacks)))
    why = f" ({facts.error})" if facts.error else ""
    if facts.age is None:
        return f"it never sent numbers{why}, so only its room counts"
    return f"no usable numbers for {number(facts.age)} s{why}, so what they said fades"
