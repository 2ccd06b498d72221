"""Which answer belongs to which request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from weighbridge_simulator.answers import Completion, Embeddings
from weighbridge_simulator.ask import Ask, Operation
from weighbridge_simulator.media import Images, Ranking, Speech, Transcription
from weighbridge_simulator.turns import Content, Message, Response


class Answer(Protocol):
    """An answer, whole or piece by piece. `kind` is the content type of the whole one."""

    kind: bytes

    def whole(self) -> bytes:
        """The answer in one piece."""

    def opening(self) -> bytes:
        """What a stream starts with, once the first token is there."""

    def piece(self, start: int, stop: int, /) -> bytes:
        """Tokens `start` to `stop`."""

    def closing(self) -> bytes:
        """What a stream ends with."""


_WRITERS: Mapping[Operation, Callable[[Ask, str, int], Answer]] = {
    "chat": Completion,
    "completion": Completion,
    "embedding": Embeddings,
    "response": Response,
    "message": Message,
    "content": Content,
    "rerank": Ranking,
    "image": Images,
    "speech": Speech,
    "transcription": Transcription,
}


def write_answer(ask: Ask, ident: str, created: int) -> Answer:
    """The answer to a request. `ident` and `created` (Unix time) are on every piece that tells them."""
    return _WRITERS[ask.operation](ask, ident, created)
