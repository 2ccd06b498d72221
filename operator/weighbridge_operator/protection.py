"""TLS of xDS, as the settings want it: the material to serve with, and the work that keeps it fresh."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import grpc

from weighbridge_operator.latest import Latest
from weighbridge_operator.settings import GATEWAY, Settings
from weighbridge_operator.trust.directory import follow_directory, read_directory
from weighbridge_operator.trust.material import Material
from weighbridge_operator.trust.rotation import envoy_identity
from weighbridge_operator.xds.credentials import make_credentials


@dataclass(frozen=True, slots=True)
class Protection:
    """What the ADS server starts with; nothing of it where xDS is in plain text."""

    settings: Settings
    material: Latest[Material]

    @property
    def credentials(self) -> grpc.ServerCredentials | None:
        return make_credentials(self._current) if self.material.get() is not None else None

    @property
    def identity(self) -> str | None:
        """What the certificate of an Envoy must say."""
        return envoy_identity(GATEWAY) if self.material.get() is not None else None

    async def run(self) -> None:
        """Keeps the material fresh until cancelled."""
        directory = self.settings.security.xds_directory
        if directory is not None:
            await follow_directory(directory, self.material)

    def _current(self) -> Material:
        material = self.material.get()
        assert material is not None
        return material


async def protect(settings: Settings) -> Protection:
    """Raises MaterialError where there is nothing to serve with: xDS never opens in plain text instead."""
    protection = Protection(settings, Latest())
    directory = settings.security.xds_directory
    if directory is not None:
        protection.material.set(await asyncio.to_thread(read_directory, directory, time.time()))
    return protection
