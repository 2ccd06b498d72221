"""One type's part of an ADS stream: what the Envoy asks for, what is on its way, what it accepted, what it refused.

- A request settles the response whose nonce it carries, and with it every earlier one of the type: Envoy works in
  order and joins acknowledgements while a type is paused. `error_detail` alone says refused. Its names are the newest.
- A request that repeats an answered nonce with the same names is a new subscription to something old: Envoy waits for
  an answer although nothing changed.
- A refused response that carried several changes is halved until the culprit is alone (Envoy often doesn't name it); a
  culprit is not sent again while its content is the same, and the last accepted form stands in for it.
- Clusters and listeners are complete sets: what is left out is deleted. If the Envoy has a past that we don't know (we
  restarted), a set that was refused can't be repaired by leaving things out: that could delete what still serves. Then
  the type rests until the refused content changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from weighbridge_operator.xds.kinds import COMPLETE
from weighbridge_operator.xds.memory import Content, Memory, Refusal, Verdicts
from weighbridge_operator.xds.snapshot import Resource, combine_versions


@dataclass(frozen=True, slots=True)
class Request:
    """What an Envoy says about one type. `error` is its reason for refusing the response `nonce`, or None."""

    kind: str
    version: str = ""
    nonce: str = ""
    names: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What an Envoy is told about one type."""

    kind: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]


class Exchange:
    """The mutable state of one type on one stream."""

    def __init__(self, kind: str, memory: Memory) -> None:
        verdicts = memory.verdicts.get(kind, Verdicts())
        self.kind = kind
        self.subscribed = False
        self.wildcard = False
        self.names: frozenset[str] = frozenset()
        self.held: dict[str, Resource] = dict(memory.held.get(kind, {}))
        self.current = True  # whether the Envoy said that it was told nothing else since `held` was noted
        self.refused = dict(verdicts.refused)
        self.due: set[str] = set()  # names that are owed an answer even if nothing changed
        self.confirmed: set[str] = set()  # names that were accepted on this very stream
        self.sent: dict[str, Resource] | None = None  # the last complete set; None before the first
        self.unsure = False  # whether the last set was refused: parts of it may have been applied
        self.past_known = True  # whether `held` is all that the Envoy holds of this type
        self._versions = memory.versions.get(kind, ())
        self._outstanding: dict[str, Response] = {}
        self._owed: dict[str, set[str]] = {}  # nonce -> names that were due in that response
        self._flying: set[str] = set()
        self._doubts = dict(verdicts.doubts)
        self._refused_sets = dict(verdicts.refused_sets)
        self._last_nonce = ""

    @property
    def outstanding(self) -> bool:
        """Whether a response waits for the Envoy's verdict."""
        return bool(self._outstanding)

    @property
    def verdicts(self) -> Verdicts:
        return Verdicts(dict(self.refused), dict(self._doubts), dict(self._refused_sets))

    def flying(self) -> Iterable[Resource]:
        """Everything that is on its way."""
        return (resource for response in self._outstanding.values() for resource in response.resources)

    @property
    def versions(self) -> tuple[str, ...]:
        """What the Envoy said last that it has, and what it was told since."""
        return (*self._versions, *(response.version for response in self._outstanding.values()))

    def forget(self) -> None:
        """The Envoy is new: what an earlier life of it held says nothing."""
        self.held.clear()
        self.past_known, self._versions = True, ()

    def hear(self, request: Request, now: float) -> None:
        """Takes in the names and the verdict of a request."""
        if not self.subscribed and self._versions:
            self.current = request.version == self._versions[0]
        self._versions = (request.version,)
        added, same = self._subscribe(request)
        if request.nonce in self._outstanding:
            self._settle(request.nonce, request.error, now)
        elif same and request.error is None and request.nonce == self._last_nonce:
            self.due |= self.names
        self.due |= added

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def choose(self, target: Mapping[str, Resource], name: str) -> Resource | None:
        """The form of one resource to serve: the target's, or the last accepted one if that was refused or is gone."""
        wanted = target.get(name)
        if wanted is None or (name, wanted.version) in self.refused:
            return self.held.get(name)
        return wanted

    def is_refused(self, resource: Resource) -> bool:
        return (resource.name, resource.version) in self.refused

    def choose_set(
        self, target: Mapping[str, Resource], ready: Callable[[Resource], bool] = lambda _: True
    ) -> dict[str, Resource] | None:
        """The complete set to serve; None when every possible set could delete what still serves.

        What is held and whose change is not `ready` stays as it is.
        """
        names = target if self.wildcard else [name for name in target if name in self.names]
        if not self.past_known and any(self.is_refused(target[name]) for name in names):
            return None
        chosen = {name: resource for name in names if (resource := self.choose(target, name)) is not None}
        for resource in self._changed(chosen.values()):
            if resource.name in self.held and not ready(resource):
                chosen[resource.name] = self.held[resource.name]
        for resource in self._held_back(self._changed(chosen.values())):
            del chosen[resource.name]
            if resource.name in self.held:
                chosen[resource.name] = self.held[resource.name]
        return dict(sorted(chosen.items()))

    def convict(self, chosen: Mapping[str, Resource]) -> bool:
        """Whether this very set was refused before, when less of it was accepted; its changes are judged anew."""
        refusal = self._refused_sets.get(combine_versions(chosen.values()))
        changed = self._changed(chosen.values())
        if refusal is None or not changed:
            return False
        self._blame(changed, refusal)
        return True

    def group(self, resources: list[Resource], size: int) -> Iterable[tuple[Resource, ...]]:
        """Splits resources into responses of at most `size`, smaller ones where a response was refused."""
        fresh: list[Resource] = []
        doubted: list[Resource] = []
        for resource in resources:
            (doubted if (resource.name, resource.version) in self._doubts else fresh).append(resource)
        for start in range(0, len(fresh), size):
            yield tuple(fresh[start : start + size])
        # The most doubted first, so that no group is larger than any of its members may have.
        doubtful = sorted((self._doubts[r.name, r.version], r.name, r) for r in doubted)
        while doubtful:
            allowed = doubtful[0][0]
            yield tuple(r for _, _, r in doubtful[:allowed])
            doubtful = doubtful[allowed:]

    def send(self, nonce: str, resources: tuple[Resource, ...]) -> Response:
        """Puts one response on its way."""
        response = self._outstanding[nonce] = Response(self.kind, combine_versions(resources), nonce, resources)
        self._last_nonce = nonce
        if self.kind in COMPLETE:
            self.sent = {resource.name: resource for resource in resources}
        names = {resource.name for resource in resources}
        self._flying |= names
        self._owed[nonce] = names & self.due
        self.due -= names
        return response

    def holds(self, wanted: Resource) -> bool:
        """Whether the Envoy has this form of the resource."""
        held = self.held.get(wanted.name)
        return held is not None and held.version == wanted.version

    def list_known(self) -> Mapping[str, Resource]:
        """What is held without doubt: what was remembered may be of before another operator told the Envoy more."""
        return {name: held for name, held in self.held.items() if self.current or name in self.confirmed}

    def recognise(self, wanted: Mapping[str, Resource]) -> None:
        """What is held in the wanted form is that very resource, of which more is known than an Envoy can tell."""
        self.held.update({name: resource for name, resource in wanted.items() if self.holds(resource)})

    def is_flying(self, name: str) -> bool:
        return name in self._flying

    def keep_refusals_of(self, target: Mapping[str, Resource]) -> None:
        """Forgets refusals of content that nobody wants any more."""

        def wanted(content: Content) -> bool:
            resource = target.get(content[0])
            return resource is not None and resource.version == content[1]

        self.refused = {content: refusal for content, refusal in self.refused.items() if wanted(content)}
        self._doubts = {content: size for content, size in self._doubts.items() if wanted(content)}
        if not self.refused and not self._doubts:
            self._refused_sets.clear()

    def _subscribe(self, request: Request) -> tuple[frozenset[str], bool]:
        names = frozenset(request.names)
        if self.kind in COMPLETE:
            # Nothing named means everything, unless names were given before (the protocol's rule for both types).
            self.wildcard = "*" in names or (not names and (self.wildcard or not self.subscribed))
            names -= {"*"}
        elif self.subscribed and names == self.names:
            return frozenset(), True
        added = names - self.names if self.subscribed else names
        gone = (self.names | self.held.keys()) - names
        self.subscribed, self.names = True, names
        if self.kind in COMPLETE:
            return frozenset(), False
        self.due -= gone
        for name in gone:
            self.held.pop(name, None)
        return added, False

    def _settle(self, nonce: str, error: str | None, now: float) -> None:
        for earlier in list(self._outstanding):
            resources, owed = self._outstanding.pop(earlier).resources, self._owed.pop(earlier)
            if earlier == nonce and error is not None:
                self._refuse(resources, owed, error, now)
            else:
                self._accept(resources)
            if earlier == nonce:
                break
        self._flying = {resource.name for resource in self.flying()}

    def _accept(self, resources: tuple[Resource, ...]) -> None:
        if self.kind in COMPLETE:
            self.held = {resource.name: resource for resource in resources}
            self.past_known, self.unsure = True, False
        else:
            self.held.update((r.name, r) for r in resources if r.name in self.names)
            self.confirmed |= {resource.name for resource in resources}
        if self._doubts:
            for resource in resources:
                self._doubts.pop((resource.name, resource.version), None)

    def _refuse(self, resources: tuple[Resource, ...], owed: set[str], text: str, now: float) -> None:
        if self.kind in COMPLETE:
            self._refused_sets[combine_versions(resources)] = Refusal(text, now)
            self.unsure = True
        suspects = self._changed(resources)
        if suspects:
            # The response was refused as a whole, so what was owed in it is still owed.
            self.due |= owed & self.names
        named = [resource for resource in suspects if _names(text, resource.name)]
        self._blame(named or suspects, Refusal(text, now), certain=bool(named) or not self.past_known)

    def _blame(self, suspects: list[Resource], refusal: Refusal, *, certain: bool = False) -> None:
        for resource in suspects:
            content = resource.name, resource.version
            if certain or len(suspects) == 1:
                self.refused[content] = refusal
                self._doubts.pop(content, None)
            else:
                self._doubts[content] = len(suspects) // 2

    def _changed(self, resources: Iterable[Resource]) -> list[Resource]:
        return [r for r in resources if r.name not in self.held or self.held[r.name].version != r.version]

    def _held_back(self, changed: list[Resource]) -> list[Resource]:
        groups = list(self.group(changed, max(1, len(changed))))
        return [resource for group in groups[1:] for resource in group]


def _names(text: str, name: str) -> bool:
    # "Error adding/updating cluster(s) a: reason, b: reason" is the only form in which Envoy names the culprits.
    return text.startswith("Error adding/updating") and re.search(rf"[\s,]{re.escape(name)}: ", text) is not None
