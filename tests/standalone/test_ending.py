"""A process that is told to end does, whatever still hangs in it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HANGING = """
import asyncio, sys, threading
from weighbridge_operator.ending import Ending

async def main():
    ending = Ending(float(sys.argv[1]))
    # asyncio waits for such a thread when the loop ends.
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    print("up", flush=True)
    await ending.told.wait()
    print("told", flush=True)

asyncio.run(main())
"""


def start(patience: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(patience)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    return process


def test_what_hangs_does_not_hold_up_the_end() -> None:
    with start(0.2) as process:
        _, said = process.communicate(timeout=60)
    assert said == "weighbridge: not everything ended within 0.2 s; ended anyway\n"
    assert process.returncode == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(second: signal.Signals) -> None:
    with start(600) as process:
        process.send_signal(second)
        _, said = process.communicate(timeout=60)
    assert said == "weighbridge: a second signal came; ended anyway\n"
    assert process.returncode == 1
