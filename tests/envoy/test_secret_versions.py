"""Which form of its secrets an Envoy holds, as its own statistics tell a replica that it is not connected to."""

from __future__ import annotations

import time

import pytest

from support.mounted import authority, server
from support.stack import Stack, node, secret
from weighbridge_operator.envoy_reports import Elsewhere
from weighbridge_operator.sources.envoys import EnvoyRound, read_envoys
from weighbridge_operator.sources.scrape import open_session
from weighbridge_operator.xds.envoys import EnvoyStates, Lack
from weighbridge_operator.xds.kinds import SECRET
from weighbridge_operator.xds.snapshot import Snapshot

pytestmark = pytest.mark.envoy
OURS = authority()
PAIR = server(OURS)
KEYS = {
    "credential/default/first/apiKey",
    "key/default/second/apiKey",
    "ca/default/ca",
    "entrance",
}


def objects(key: str) -> list[dict[str, object]]:
    given = {"secretRef": {"name": "first", "key": "apiKey"}}
    other = {"secretRef": {"name": "second", "key": "apiKey"}}
    trusted = {"caSecretRef": {"name": "ca"}, "serverName": "localhost"}
    front = secret("front", tls_crt=PAIR.certificate_pem.decode(), tls_key=PAIR.key_pem.decode())
    return [
        node("a", 9, "m", engine="openai", credentials=given, tls=trusted),
        node("b", 9, "n", engine="openai", credentials=other, format="anthropic"),
        secret("first", apiKey=key),
        secret("second", apiKey="sk-2"),
        secret("ca", ca_crt=OURS.certificate_pem.decode()),
        {**front, "type": "kubernetes.io/tls"},
    ]


async def answer(stack: Stack) -> EnvoyRound:
    async with open_session() as session:
        return await read_envoys(session, {"envoy-0": stack.envoys[0].admin_url}, time.monotonic)


def judge(answered: EnvoyRound, snapshot: Snapshot | None) -> Lack | None:
    """As a replica does that the Envoy is not connected to."""
    return Elsewhere().judge(EnvoyStates(), answered, snapshot, (), 0.0)["envoy-0"]


async def test_a_replica_knows_of_every_secret_whether_another_replicas_envoy_holds_it() -> None:
    async with Stack(*objects("sk-1"), tls="front") as stack:
        before, old = await answer(stack), stack.loop.snapshots.get()
        assert old is not None
        assert set(before.states["envoy-0"].secrets) == set(old.of(SECRET)) == KEYS
        assert judge(before, old) is None
        await stack.apply(*objects("sk-3"))
        new = stack.loop.snapshots.get()
        # With one secret the salt of all versions is another.
        assert judge(before, new) == Lack("it does not hold the newest configuration", frozenset(KEYS))
        after = await answer(stack)
        assert judge(after, new) is None
        assert judge(after, old) is not None
