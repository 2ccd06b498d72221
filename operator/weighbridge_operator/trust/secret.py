"""The operator's own certificates, in Secrets of the cluster: made where there are none, renewed in time.

Every replica does this, and whoever wins the write has decided for all: a Secret is created only where there is none,
and replaced only as it was read (resourceVersion). Who loses reads again. Blocking: for a thread.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from weighbridge_operator.cluster_api import ApiFault, ClusterApi
from weighbridge_operator.latest import Latest
from weighbridge_operator.trust.material import Material, MaterialError, read_material, to_utc
from weighbridge_operator.trust.minting import CLIENT, SERVER, Uses
from weighbridge_operator.trust.rotation import Entries, Step, plan_leaf, plan_own
from weighbridge_operator.trust.steps import take_leaf, take_own

POLL = 60.0  # seconds between looks
RETRY = 2.0  # seconds after one that failed
TRIES = 20  # writes for one look; each may be lost to another replica
OWNER = ("app.kubernetes.io/managed-by", "weighbridge-operator")
log = logging.getLogger("weighbridge.trust")


@dataclass(frozen=True, slots=True)
class SecretNames:
    """`name` is the operator's Secret; that of the Envoys has `-client` behind it, that of data planes `-peers`."""

    namespace: str
    name: str
    server: frozenset[str]  # DNS names that the server's certificate must have
    identity: str  # URI that the Envoys' certificate must have
    peer: str | None = None  # URI that data planes' certificate must have; None: they need none

    @property
    def client(self) -> str:
        return f"{self.name}-client"

    @property
    def peers(self) -> str:
        return f"{self.name}-peers"


class SecretKeeper:
    """Brings the Secrets into order and answers what to serve with."""

    def __init__(
        self, names: SecretNames, connect: Callable[[], ClusterApi], clock: Callable[[], float] = time.time
    ) -> None:
        self._names, self._connect, self._clock = names, connect, clock
        self._api: ClusterApi | None = None

    def settle(self) -> Material:
        """Raises ApiFault or MaterialError."""
        names, now = self._names, to_utc(self._clock())
        own = self._settle(
            names.name,
            lambda entries: plan_own(entries, names.server, now),
            lambda step, entries: take_own(step, entries, names.server, now),
        )
        self._settle_leaf(names.client, own, names.identity, CLIENT, now)
        return read_material(own, trusts=True, now=now)

    def settle_peers(self) -> None:
        """The same for data planes, after the operator's own. Raises ApiFault or MaterialError."""
        names = self._names
        if names.peer is not None and (found := self._read(names.name)) is not None:
            now = to_utc(self._clock())
            self._settle_leaf(names.peers, _decode(found), names.peer, SERVER + CLIENT, now)

    def _settle_leaf(self, name: str, own: Entries, identity: str, uses: Uses, now: datetime) -> None:
        self._settle(
            name,
            lambda entries: plan_leaf(own, entries, identity, now),
            lambda step, entries: take_leaf(step, own, entries, identity, uses, now),
        )

    def _settle(
        self, name: str, plan: Callable[[Entries], Step], take: Callable[[Step, Entries], dict[str, bytes]]
    ) -> Entries:
        for _ in range(TRIES):
            found = self._read(name)
            entries = _decode(found) if found is not None else {}
            step = plan(entries)
            if step is Step.KEEP:
                return entries
            self._write(name, found, take(step, entries), step)
        raise MaterialError(f"Secret {self._names.namespace}/{name} changes again and again under the operator")

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = self._call("GET", self._path(name))
        except ApiFault as fault:
            if fault.status == 404:
                return None
            raise
        labels = (found.get("metadata") or {}).get("labels") or {}
        if labels.get(OWNER[0]) != OWNER[1]:
            raise MaterialError(
                f"Secret {self._names.namespace}/{name} is not the operator's (label {OWNER[0]}={OWNER[1]}) and is "
                "left as it is; choose another name with --xds-tls-secret"
            )
        return found

    def _write(self, name: str, found: Mapping[str, Any] | None, entries: Entries, step: Step) -> None:
        data = {entry: base64.b64encode(value).decode() for entry, value in entries.items()}
        try:
            if found is None:
                metadata: dict[str, Any] = {"name": name, "labels": {OWNER[0]: OWNER[1]}}
                body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}
                self._call("POST", self._path(), body)
            else:
                self._call("PUT", self._path(name), {**found, "data": data})
        except ApiFault as fault:
            if fault.status == 409:
                return  # another replica was first
            raise
        log.info("Secret %s/%s: %s", self._names.namespace, name, step.value)

    def _path(self, name: str | None = None) -> str:
        path = f"/api/v1/namespaces/{self._names.namespace}/secrets"
        return path if name is None else f"{path}/{name}"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if self._api is None:
            self._api = self._connect()
        return self._api.call(method, path, body)


def keep_secret(names: SecretNames) -> SecretKeeper:
    """In the cluster that KUBECONFIG, or the pod's own account, names."""
    return SecretKeeper(names, ClusterApi.connect)


async def follow_secret(
    keeper: SecretKeeper, material: Latest[Material], *, poll: float = POLL, retry: float = RETRY
) -> None:
    """Keeps `material` as the Secrets have it. What is wrong is said once. Ends by cancellation."""
    said = peers = ""
    while True:
        try:
            found = await asyncio.to_thread(keeper.settle)
        except (ApiFault, MaterialError) as error:
            if str(error) != said:
                log.warning("xDS certificates: %s", error)
            said = str(error)
            await asyncio.sleep(retry)
            continue
        said = ""
        if found != material.get():
            material.set(found)
            log.info("xDS is served with a certificate that is good until %s", _print(found.until))
        peers = await _follow_peers(keeper, peers)
        await asyncio.sleep(poll)


async def _follow_peers(keeper: SecretKeeper, said: str) -> str:
    """What is wrong now; xDS does not wait for it."""
    try:
        await asyncio.to_thread(keeper.settle_peers)
    except (ApiFault, MaterialError) as error:
        if str(error) != said:
            log.warning("data planes' certificates: %s", error)
        return str(error)
    return ""


def _decode(found: Mapping[str, Any]) -> dict[str, bytes]:
    entries = {}
    for entry, value in (found.get("data") or {}).items():
        try:
            entries[entry] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            entries[entry] = b""
    return entries


def _print(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
