"""Keeps `weighbridge dataplane` alive where nobody else may: in a container beside Envoy.

kubelet would start an ended container anew as well, but takes its whole pod out of service while the container is down,
for minutes where it ends again and again. Envoy serves without a data plane; so the container's first process is this
one, which does nothing that can fail and starts the real one anew when it ends, or when its loop stands still.
The standard library alone, so that it stays small: `python -m weighbridge_dataplane.keeper [FLAG...]`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

BEAT = 1.0  # seconds between two signs of life
STILL = 10.0  # seconds without one, after which it is ended: Envoy asks it no more for long by then
START = 30.0  # the same for the first
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before it is started again
WELL = 60.0  # seconds of life, after which the pause is short again
GRACE = 15.0  # seconds for its own end, above what it gives its requests


class Keeper:
    """`run` until SIGTERM or SIGINT."""

    def __init__(self, flags: Sequence[str]) -> None:
        self._flags = tuple(flags)
        self._woken, waker = os.pipe()
        for end in (self._woken, waker):
            os.set_blocking(end, False)
        # A signal is a byte in this pipe: no handler runs in the middle of anything.
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def run(self) -> int:
        """0."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            why = self._live()
            if why is None:
                return 0
            if time.monotonic() - began > WELL:
                pause = FIRST_PAUSE
            _say(f"it {why}; the weights decide meanwhile; starting it again in {pause:.1f} s")
            if self._wait(pause):
                return 0
            pause = min(2 * pause, LONGEST_PAUSE)

    def _live(self) -> str | None:
        """One life; why it ended, None where we were told to end it."""
        try:
            beats, beating = os.pipe()
        except OSError as error:
            return f"could not be started ({error.strerror})"
        command = (sys.executable, "-m", "weighbridge_api.console", "dataplane", *self._flags)
        try:
            process = subprocess.Popen(  # noqa: S603  our own command
                (*command, "--beat", str(beating)), stdin=subprocess.DEVNULL, pass_fds=(beating,)
            )
        except OSError as error:  # no memory or no process to be had now
            os.close(beats)
            return f"could not be started ({error.strerror})"
        finally:
            os.close(beating)
        try:
            if self._follow(beats):
                _end(process)
                return None
            if process.poll() is None and not _wait_end(process, 1.0):
                process.kill()
                process.wait()
                return "stood still"
            return f"ended with {process.returncode}"
        finally:
            os.close(beats)

    def _follow(self, beats: int) -> bool:
        """Until it ends or stands still; or, and only then True, until we are told to end."""
        patience = START
        while True:
            ready, _, _ = select.select([beats, self._woken], [], [], patience)
            if self._woken in ready:
                return True
            if not ready or not os.read(beats, 4096):
                return False
            patience = STILL

    def _wait(self, pause: float) -> bool:
        """Whether we were told to end meanwhile."""
        return bool(select.select([self._woken], [], [], pause)[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    if not _wait_end(process, GRACE):
        process.kill()
        process.wait()


def _wait_end(process: subprocess.Popen[bytes], limit: float) -> bool:
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"dataplane keeper: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(Keeper(sys.argv[1:]).run())
