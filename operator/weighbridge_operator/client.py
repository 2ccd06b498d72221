"""`weighbridge status` and `weighbridge explain`: ask the operator and print what it knows."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final, Literal, TextIO
from urllib.parse import quote, urlsplit

from pydantic import TypeAdapter

from weighbridge_operator.report import Report
from weighbridge_operator.views.groups import NODE
from weighbridge_operator.views.lines import Line, clean, paint
from weighbridge_operator.views.table import tell_reasons, tell_status
from weighbridge_operator.views.words import to_plain

TIMEOUT: Final = 3.0  # seconds
LIMIT: Final = 64 * 2**20  # bytes of an answer: ten thousand nodes with room

Output = Literal["text", "json"]
Tell = Callable[[Report, int | None], list[Line]]


class NoAnswerError(Exception):
    """The operator can't be asked or has no answer; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Paper:
    """Where and how to print. Without `width` (cells) nothing is cut or wrapped."""

    stream: TextIO
    colour: bool
    width: int | None

    def write(self, text: str) -> None:
        """Prints what the stream's encoding has; other characters in their nearest form."""
        encoding = self.stream.encoding or "utf-8"
        if not encoding.lower().startswith("utf"):
            text = to_plain(text)
        self.stream.write(text.encode(encoding, "replace").decode(encoding))

    def print(self, lines: Sequence[Line]) -> None:
        """Prints lines with their looks."""
        self.write("".join(f"{paint(line, self.colour)}\n" for line in lines))


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and what to do where nobody answers, in words."""

    name: str
    flag: str
    remedy: str


OPERATOR: Final = Asked("operator", "--url or WEIGHBRIDGE_URL", "is `weighbridge up` running? ")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator is asked: `fetch` answers the body of one of its pages. It raises NoAnswerError."""

    name: str
    fetch: Callable[[str], bytes]


def over_http(url: str, asked: Asked = OPERATOR) -> Place:
    """The operator, or who else is asked, whose admin interface has this URL."""
    return Place(url, lambda path: fetch(url, path, asked))


def status(place: Place, output: Output, paper: Paper | None = None) -> int:
    """Prints the operator's report; 0, or 1 where it gives none."""
    return _run(place, "/status", output, paper, tell_status)


def explain(place: Place, node: str | None, output: Output, paper: Paper | None = None) -> int:
    """Prints why each node, or the one, has its weight; 0, or 1 where nobody can tell."""
    path = f"/explain?node={quote(node, safe='')}" if node else "/explain"
    return _run(place, path, output, paper, _explain)


def choose_paper(stream: TextIO, colour: bool = True) -> Paper:
    """As a terminal takes it; a pipe gets whole lines without colours."""
    if not stream.isatty():
        return Paper(stream, False, None)
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        width = 80
    return Paper(stream, colour, width or 80)


def fetch(url: str, path: str, asked: Asked = OPERATOR) -> bytes:
    """The answer's body. Raises NoAnswerError."""
    base = url.rstrip("/")
    if not _is_http(base):
        raise NoAnswerError(f"{clean(url)!r} is no http:// URL: give the {asked.name}'s with {asked.flag}")
    # It is asked directly: a proxy meant for the internet does not know it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}{path}", timeout=TIMEOUT) as response:
            body: bytes = response.read(LIMIT + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswerError(f"{base}: {_message(error, asked)}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = clean(str(getattr(error, "reason", error))) or type(error).__name__
        raise NoAnswerError(
            f"no {asked.name} answers at {base} ({reason}): {asked.remedy}Say where with {asked.flag}"
        ) from error
    if len(body) > LIMIT:
        raise NoAnswerError(f"{base}: the answer is larger than {LIMIT >> 20} MiB")
    return body


def _run(place: Place, path: str, output: Output, paper: Paper | None, tell: Tell) -> int:
    paper = paper or choose_paper(sys.stdout)
    try:
        body = place.fetch(path)
        if output == "json":
            paper.write(json.dumps(json.loads(body), indent=2, ensure_ascii=False) + "\n")
        else:
            paper.print(tell(TypeAdapter(Report).validate_json(body), paper.width))
    except NoAnswerError as error:
        sys.stderr.write(f"weighbridge: {error}\n")
        return 1
    except ValueError:
        sys.stderr.write(f"weighbridge: {clean(place.name)} answers, but is no Weighbridge operator of this version\n")
        return 1
    return 0


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _message(error: urllib.error.HTTPError, asked: Asked) -> str:
    try:
        told = json.loads(error.read(65536))["error"]
        if "type" in told:  # OpenAI's shape
            return f"requests to models go there, no questions about them: give the {asked.name}'s with {asked.flag}"
        return clean(str(told["message"]))
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code}: is this the {asked.name}'s address? Say where with {asked.flag}"


def _explain(report: Report, width: int | None) -> list[Line]:
    return tell_reasons(report, [o for o in report.objects if o.kind == NODE], width)
