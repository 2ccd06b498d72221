"""OpenAI's completions and embeddings, as vLLM words them. Pure: the same question gets the same text from every node.

A stream is a role chunk, content chunks, a chunk with finish_reason for each choice, a usage chunk where it was asked
for, and `[DONE]`. https://platform.openai.com/docs/api-reference/chat/streaming
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Iterable
from itertools import pairwise

from weighbridge_simulator.ask import Ask, Operation, RefusalError

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
# fmt: off
_WORDS = (
    "scale", "bridge", "load", "light", "stone", "river", "cart", "axle",
    "wheel", "grain", "timber", "harbour", "market", "morning", "engine", "signal",
    "balance", "measure", "weight", "ounce", "barrel", "ledger", "porter", "gate",
    "queue", "lantern", "copper", "anchor", "meadow", "granite", "orchard", "ferry",
)
# fmt: on
_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"}
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_STATUSES = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


def write_words(seed: int, start: int, stop: int) -> str:
    """Tokens `start` to `stop` of the text that belongs to a seed. Texts of adjoining ranges join to the whole."""
    size = len(_WORDS)
    shift, stride = seed % size, 2 * (seed // size % (size // 2)) + 1
    text = " ".join([_WORDS[(shift + stride * (i + i // size)) % size] for i in range(start, stop)])
    return " " + text if start and text else text


def encode(body: object) -> bytes:
    """JSON without spaces."""
    return _encoder.encode(body).encode()


def write_event(body: dict[str, object], name: str | None = None) -> bytes:
    """One event of a stream, named where its API names them."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: " + encode(body) + b"\n\n"


def write_error(refusal: RefusalError, operation: Operation = "chat") -> bytes:
    """The body of an error, in the shape of the operation's API."""
    status = refusal.status
    if operation == "content":
        word = _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return encode({"error": {"code": status, "message": refusal.message, "status": word}})
    if operation == "message":
        kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return encode({"type": "error", "error": {"type": kind, "message": refusal.message}})
    kind = _TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return encode({"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}})


def write_models(models: Iterable[tuple[str, str]], created: int) -> bytes:
    """The list of models, each given as the name it is served under and its own."""
    data = [
        {"id": served, "object": "model", "created": created, "owned_by": "weighbridge-simulator", "root": own}
        for served, own in models
    ]
    return encode({"object": "list", "data": data})


class Completion:
    """The answer to a chat or a prompt, whole or piece by piece. `ident` and `created` are on every piece."""

    kind = JSON
    __slots__ = ("_ask", "_base", "_seeds")

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        self._ask = ask
        self._seeds = [seed + turn for seed in ask.seeds for turn in range(ask.n)]
        chat = ask.operation == "chat"
        self._base: dict[str, object] = {
            "id": ("chatcmpl-" if chat else "cmpl-") + ident,
            "object": ("chat.completion" if chat else "text_completion") + (".chunk" if ask.stream and chat else ""),
            "created": created,
            "model": ask.model,
        }

    def whole(self) -> bytes:
        """The answer in one piece."""
        ask = self._ask
        choices = [self._choice(index, write_words(seed, 0, ask.answer)) for index, seed in enumerate(self._seeds)]
        return encode({**self._base, "choices": choices, "usage": self._usage()})

    def opening(self) -> bytes:
        """What a stream starts with, once the first token is there."""
        if self._ask.operation != "chat":
            return b""
        return b"".join(
            self._event(index, {"delta": {"role": "assistant", "content": ""}}) for index in range(len(self._seeds))
        )

    def piece(self, start: int, stop: int) -> bytes:
        """Tokens `start` to `stop` of every choice."""
        if start >= stop:
            return b""
        chat = self._ask.operation == "chat"
        pieces = []
        for index, seed in enumerate(self._seeds):
            text = write_words(seed, start, stop)
            pieces.append(self._event(index, {"delta": {"content": text}} if chat else {"text": text}))
        return b"".join(pieces)

    def closing(self) -> bytes:
        """What a stream ends with."""
        body: dict[str, object] = {"delta": {}} if self._ask.operation == "chat" else {"text": ""}
        ends = [self._event(index, body, self._reason()) for index in range(len(self._seeds))]
        if self._ask.usage:
            ends.append(write_event({**self._base, "choices": [], "usage": self._usage()}))
        return b"".join(ends) + DONE

    def _choice(self, index: int, text: str) -> dict[str, object]:
        chat = self._ask.operation == "chat"
        content: dict[str, object] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {"index": index, **content, "logprobs": None, "finish_reason": self._reason()}

    def _event(self, index: int, content: dict[str, object], reason: str | None = None) -> bytes:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        return write_event({**self._base, "choices": [choice]})

    def _reason(self) -> str:
        return "length" if self._ask.limited else "stop"

    def _usage(self) -> dict[str, object]:
        answer = self._ask.answer * len(self._seeds)
        return {
            "prompt_tokens": self._ask.prompt,
            "completion_tokens": answer,
            "total_tokens": self._ask.prompt + answer,
            "prompt_tokens_details": {"cached_tokens": self._ask.cached},
        }


class Embeddings:
    """Vectors of length 1, one for each input."""

    kind = JSON
    __slots__ = ("_ask",)

    def __init__(self, ask: Ask, _ident: str, _created: int) -> None:
        self._ask = ask

    def whole(self) -> bytes:
        """All vectors."""
        data = []
        for index, seed in enumerate(self._ask.seeds):
            vector = _embed(seed, self._ask.dimensions)
            value = base64.b64encode(vector.tobytes()).decode() if self._ask.base64 else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": value})
        usage = {"prompt_tokens": self._ask.prompt, "total_tokens": self._ask.prompt}
        return encode({"object": "list", "data": data, "model": self._ask.model, "usage": usage})

    def opening(self) -> bytes:
        """A stream of vectors there is none."""
        return b""

    def piece(self, _start: int, _stop: int) -> bytes:
        """Nor pieces of it."""
        return b""

    def closing(self) -> bytes:
        """All of it."""
        return self.whole()


def _embed(seed: int, dimensions: int) -> array[float]:
    state, values = seed | 1, []
    for _ in range(dimensions + 1):
        state = state * 1_664_525 + 1_013_904_223 & 0xFFFFFFFF
        values.append(state / 2**32)
    raw = [after - before for before, after in pairwise(values)]
    norm = math.sqrt(sum(value * value for value in raw)) or 1.0
    return array("f", [value / norm for value in raw])
