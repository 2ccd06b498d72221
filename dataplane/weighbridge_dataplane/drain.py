"""Ends an Envoy without ending a stream: the preStop hook of its container, which runs before SIGTERM.

Envoy leaves at once on SIGTERM, whatever it carries. So: tell it to drain (each answer then closes its connection),
give the cluster time to stop sending, and wait until no request is in flight. The kubelet bounds the wait by
terminationGracePeriodSeconds. The standard library alone: Envoy's image has no packages.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

DRAIN = "/drain_listeners?graceful&skip_exit"  # goes on accepting: some callers don't know yet
ENTRANCE = "http.entrance.downstream_"
STATS = f"/stats?filter={ENTRANCE}(cx_active|rq_active|rq_total)"
PATIENCE = 5.0  # seconds for one answer of the admin interface


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of the entrance: connections and requests now, and requests so far."""

    connections: int
    active: int
    total: int


def main(argv: Sequence[str]) -> int:
    """0 when nothing is in flight, or Envoy is gone."""
    parser = argparse.ArgumentParser(description="Drain an Envoy and wait until it carries no request.")
    parser.add_argument("--admin-port", type=int, default=9901)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds until no new connection can come")
    parser.add_argument(
        "--quiet", type=float, default=5.0, help="seconds without a request before idle callers are cut"
    )
    options = parser.parse_args(argv)

    def ask(method: str, path: str) -> str:
        return _ask(options.admin_port, method, path)

    try:
        ask("POST", DRAIN)
        wait(lambda: read_traffic(ask("GET", STATS)), options.settle, options.quiet)
    except (OSError, http.client.HTTPException) as error:
        print(f"drain: Envoy's admin interface does not answer, so there is nothing to wait for: {error}")
    return 0


def wait(
    look: Callable[[], Traffic],
    settle: float,
    quiet: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when no request is in flight, and callers are gone or have been silent for `quiet` seconds."""
    began = last = clock()
    total = -1
    while True:
        seen, now = look(), clock()
        if seen.total != total or seen.active:
            total, last = seen.total, now
        idle = seen.active == 0 and (seen.connections == 0 or now - last >= quiet)
        if idle and now - began >= settle:
            return
        pause(0.25)


def read_traffic(page: str) -> Traffic:
    """From lines "name: number"; one that is missing counts as 0: there is no entrance."""
    lines = [line.partition(": ") for line in page.splitlines()]
    values = {name: int(value) for name, _, value in lines if value.isdigit()}
    return Traffic(*(values.get(ENTRANCE + name, 0) for name in ("cx_active", "rq_active", "rq_total")))


def _ask(port: int, method: str, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise OSError(f"{method} {path.partition('?')[0]} answered {answer.status}")
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
