"""The cluster as the control plane sees it: the connection, the source of objects, and whom the gateway serves."""

from __future__ import annotations

from contextlib import AsyncExitStack

from weighbridge_operator.core.scope import Scope
from weighbridge_operator.keeping import keep_going
from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import ALL, KubernetesSettings, SecuritySettings
from weighbridge_operator.sources.kube.access import Api
from weighbridge_operator.sources.kube.source import ClusterSource
from weighbridge_operator.state import Objects


class Cluster:
    """`async with Cluster(settings, objects) as cluster:`; `run` does the work. Raises ClusterNotFoundError."""

    def __init__(self, settings: KubernetesSettings, security: SecuritySettings, objects: Latest[Objects]) -> None:
        self._settings, self._security, self._objects = settings, security, objects
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Cluster:
        self.api = await self._open.enter_async_context(Api())
        self.source = ClusterSource(self._settings, self.api, self._objects, self._list_secrets())
        self.identity = self.api.find_authority()
        watch = self._settings.watch
        self.scope = Scope(
            self._settings.namespace,
            others=frozenset(watch) - {ALL},
            everything=ALL in watch,
            cluster=True,
            refused=await self.api.find_addresses(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def _list_secrets(self) -> dict[tuple[str, str], frozenset[str] | None]:
        """The gateway's own: the entrance's certificate, and every entry of the one with callers' keys."""
        own, security = self._settings.namespace, self._security
        certificate = frozenset({"tls.crt", "tls.key"})
        found: dict[tuple[str, str], frozenset[str] | None] = {}
        if security.entrance is not None:
            found[own, security.entrance] = certificate
        if security.keys is not None:
            found[own, security.keys] = None
        return found

    async def run(self) -> None:
        """Reads until cancelled."""
        await keep_going("reading the cluster", self.source.run)
