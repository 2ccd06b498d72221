"""Which other data planes are heard now, and how many Envoys they stand for. Pure; the clock is an argument."""

from __future__ import annotations

from weighbridge_dataplane.facts import Heard
from weighbridge_dataplane.words import Hello

HEARD = 1.25  # seconds since its last word for which somebody is heard; one comes every half second at least


class Company:
    """The others, as `own` sees them."""

    def __init__(self, own: Hello) -> None:
        self.own = own
        self._heard: dict[bytes, tuple[Hello, float]] = {}

    def hear(self, hello: Hello, now: float) -> None:
        """A word of it came."""
        self._heard[hello.process] = (hello, now)

    def hears(self, process: bytes, now: float) -> bool:
        """Whether that one is heard."""
        return process in self._heard and now - self._heard[process][1] <= HEARD

    def forget(self, process: bytes) -> None:
        """It said goodbye."""
        self._heard.pop(process, None)

    def count(self, now: float) -> Heard:
        """Who is heard now."""
        beside: dict[bytes, list[int]] = {}
        begins = True
        for process, (hello, at) in list(self._heard.items()):
            if now - at > HEARD:
                del self._heard[process]
            else:
                beside.setdefault(hello.envoy, []).append(hello.processes)
                begins = begins and hello.begins
        processes = sum(map(len, beside.values()))
        whole = sum(len(told) >= max(told) for envoy, told in beside.items() if envoy != self.own.envoy)
        return Heard(processes, whole, len(beside.get(self.own.envoy, ())), begins)
