"""The flags of the request log."""

from __future__ import annotations

import argparse

from weighbridge_operator.settings import RequestLogSettings


def add_request_log(parser: argparse.ArgumentParser) -> None:
    """Flags of `up` and `operator`."""
    parser.add_argument(
        "--request-log",
        metavar="PATH",
        help="let Envoy write a line of JSON for each request to this file of its machine; - is its standard output",
    )
    parser.add_argument(
        "--request-log-tokens",
        action="store_true",
        help="with the tokens that the answers tell, which costs Envoy CPU",
    )


def read_request_log(options: argparse.Namespace) -> RequestLogSettings | None:
    """What the flags settle. Raises ValueError with a remedy."""
    place, tokens = getattr(options, "request_log", None), getattr(options, "request_log_tokens", False)
    if place is None:
        if tokens:
            raise ValueError("--request-log-tokens is part of --request-log: give that, or leave it out")
        return None
    if not place or not place.isprintable() or len(place) > 4096:
        raise ValueError("--request-log wants the path of a file, or - for standard output")
    return RequestLogSettings(place, tokens)
