"""The writer beside the control plane: reports go in, and it ends with it."""

from __future__ import annotations

import asyncio

from weighbridge_operator.cluster_api import ClusterApi
from weighbridge_operator.settings import KubernetesSettings
from weighbridge_operator.status import Reporter
from weighbridge_operator.status_writer.api import StatusApi
from weighbridge_operator.status_writer.election import Election
from weighbridge_operator.status_writer.writer import StatusWriter


async def write_statuses(reporter: Reporter, settings: KubernetesSettings) -> None:
    """Works until cancelled, and gives the Lease back then. Raises ApiFault where no cluster is configured."""
    api = await asyncio.to_thread(ClusterApi.connect)
    election = Election(settings.lease, settings.namespace, settings.identity)
    writer = StatusWriter(StatusApi(api, settings.watch), election)
    writer.start()
    reporter.describe_writer = writer.describe
    version = 0
    try:
        while True:
            report, version = await reporter.reports.wait_newer(version)
            writer.offer(report)
    finally:
        await asyncio.to_thread(writer.stop)
