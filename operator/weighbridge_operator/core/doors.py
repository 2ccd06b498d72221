"""Who may come in, and over what: the entrance's certificate and callers' keys, from the Secrets that flags name.

A Secret that is broken or gone keeps its last good form, so that a slip shuts nobody out; one bad key costs its owner
alone. At a fresh start without a certificate the entrance stays shut, and without keys nobody is let in: neither is
ever opened to everybody by a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weighbridge_operator.trust.material import Material, MaterialError, read_material

Secrets = Mapping[tuple[str, str], Mapping[str, bytes]]  # (namespace, name) -> entry -> value

LONGEST_KEY = 512  # characters
MOST_KEYS = 20_000
_SHUT = "until it is good nobody is answered but by an Envoy that holds a good one from before"
TOLD = 20  # problems of one Secret that are listed; the rest is counted


@dataclass(frozen=True, slots=True)
class DoorNames:
    """The Secrets, in the gateway's own namespace; None where there is no TLS, or no key is asked for."""

    namespace: str = "default"
    tls: str | None = None
    keys: str | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """What the entrance opens with. `callers` are (client, key), sorted by client; each key is there once."""

    certificate: Material | None = None
    callers: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    problems: tuple[str, ...] = ()


def open_doors(names: DoorNames, secrets: Secrets, held: Doors) -> Doors:
    """What is good now, or was last."""
    problems: list[str] = []
    certificate = _read_certificate(names, secrets, held, problems) if names.tls else None
    callers = _read_callers(names, secrets, held, problems) if names.keys else None
    return Doors(certificate, callers, tuple(problems))


def _read_certificate(names: DoorNames, secrets: Secrets, held: Doors, problems: list[str]) -> Material | None:
    place = f"Secret {names.namespace}/{names.tls} (--entrance-tls-secret)"
    entries = secrets.get((names.namespace, names.tls or ""))
    try:
        if entries is None:
            raise MaterialError("there is no such Secret; make one of type kubernetes.io/tls")
        return read_material(entries, trusts=False)
    except MaterialError as error:
        meanwhile = "the last good one stays in use" if held.certificate else _SHUT
        problems.append(f"{place}: {error}; {meanwhile}")
        return held.certificate


def _read_callers(
    names: DoorNames, secrets: Secrets, held: Doors, problems: list[str]
) -> tuple[tuple[str, str], ...] | None:
    place = f"Secret {names.namespace}/{names.keys} (--keys-secret)"
    entries = secrets.get((names.namespace, names.keys or ""))
    if entries is None:
        kept = "the last known keys stay good until an operator starts anew"
        meanwhile = kept if held.callers else "nobody is let in until there is one"
        problems.append(f"{place}: there is no such Secret; {meanwhile}")
        return held.callers
    callers, amiss = read_callers(entries)
    wrong = [f"{place}: entry {client} {why}; it lets nobody in" for client, why in amiss.items()]
    if len(entries) > MOST_KEYS:
        wrong.insert(0, f"{place}: holds more than {MOST_KEYS} keys; those behind {MOST_KEYS} let nobody in")
    if not entries:
        problems.append(f"{place}: has no entry; nobody is let in")
    problems += wrong[:TOLD]
    if len(wrong) > TOLD:
        problems.append(f"{place}: {len(wrong) - TOLD} more entries let nobody in")
    return callers


def read_callers(entries: Mapping[str, bytes]) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """(client, key) of each good entry, sorted; and why each of the others lets nobody in, by its name."""
    owners: dict[str, str] = {}
    amiss: dict[str, str] = {}
    for client, value in sorted(entries.items())[:MOST_KEYS]:
        why = _judge(value, owners)
        if why is None:
            owners[value.strip().decode()] = client
        else:
            amiss[client] = why
    return tuple(sorted((client, key) for key, client in owners.items())), amiss


def _judge(value: bytes, owners: Mapping[str, str]) -> str | None:
    """What is wrong with a key; never quotes it."""
    key = value.strip()
    if not key:
        return "is empty"
    if len(key) > LONGEST_KEY:
        return f"is longer than {LONGEST_KEY} characters"
    if any(byte < 33 or byte > 126 for byte in key):
        return "must be one line of printable ASCII without blanks"
    owner = owners.get(key.decode())
    return None if owner is None else f"has the same key as {owner}"
