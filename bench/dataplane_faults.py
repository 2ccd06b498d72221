"""The data plane killed, frozen, slow and restarted under 200 requests a second and 50 streams: what it costs.

    make bench-faults                                                    # after the other faults
    PYTHONPATH=tests .venv/bin/python bench/dataplane_faults.py killed   # one

`delayed` are requests that waited in vain for the data plane, 20 ms each, within 5 s; `delayed_after_5s` those later.
`named_again_s`: from when it is well again (0: less than 2 s). `p50`, `p99`: times of whole answers while it is hurt,
beside those of the weights alone, in the same scene before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from support import dataplane_scene as scene
from support.losses import Figure

SECONDS = 10.0


async def killed(seconds: float = SECONDS, *, beside: bool = True) -> Figure:
    """kill -9, and not started again."""
    return await scene.hurt("data plane killed", scene.kill, None, seconds, beside=beside)


async def frozen(seconds: float = SECONDS, *, beside: bool = True) -> Figure:
    """SIGSTOP, then SIGCONT."""
    return await scene.hurt("data plane frozen", scene.freeze, scene.thaw, seconds, beside=beside)


async def slow(seconds: float = SECONDS, *, beside: bool = True) -> Figure:
    """It answers after 50 ms."""
    return await scene.hurt("data plane answers after 50 ms", scene.slow, None, seconds, beside=beside)


async def stammering(seconds: float = SECONDS, *, beside: bool = True) -> Figure:
    """It stands still for 50 ms of each 60."""
    return await scene.hurt("data plane stands still 50 ms of 60", scene.stammer, scene.nothing, seconds, beside=beside)


async def restarted(seconds: float = SECONDS, *, beside: bool = True) -> Figure:
    """SIGTERM, and a new one after its end."""
    return await scene.hurt("data plane restarted", scene.restart, scene.nothing, seconds, beside=beside)


FAULTS: dict[str, Callable[[], Awaitable[Figure]]] = {
    "killed": killed,
    "frozen": frozen,
    "slow": slow,
    "stammering": stammering,
    "restarted": restarted,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", nargs="*", metavar="fault", help=f"of {', '.join(FAULTS)}; default: all")
    faults = parser.parse_args().fault or list(FAULTS)
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    for name in faults:
        figure = asyncio.run(FAULTS[name]())
        print(f"{figure.fault:36} asked {figure.asked:5}  lost {figure.lost:4}  {json.dumps(figure.told)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
