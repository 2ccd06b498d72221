"""What a client asks of a model, read from a JSON body of OpenAI's, Anthropic's or Gemini's shape. Pure.

Sizes come from the text, about four characters a token, or exactly from the headers `x-sim-prompt` and `x-sim-answer`
(tokens), which benchmarks use. The seed follows from the prompt alone, so that every node gives the same answer to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

Operation = Literal[
    "chat",
    "completion",
    "embedding",
    "response",
    "message",
    "content",
    "rerank",
    "image",
    "speech",
    "transcription",
]
#: Answered with what an engine makes of the prompt alone.
SCORING = frozenset({"embedding", "rerank"})
PROMPT_HEADER = b"x-sim-prompt"
ANSWER_HEADER = b"x-sim-answer"
N_MAXIMUM = 128
INPUTS_MAXIMUM = 2048
_BEFORE = "<|turn-begins|>\n"  # a message, at four characters a token


class RefusalError(Exception):
    """A request that gets an error, in the shape of the API that it was made with."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """One valid request. `seeds` has one entry for each prompt or input; `limited`: the client set the length.

    `text` is the prompt, where there is one alone, and `cached` how many of its tokens the node need not read.
    """

    operation: Operation
    model: str
    prompt: int  # tokens, over all prompts
    answer: int  # tokens, of each sequence
    seeds: tuple[int, ...]
    n: int = 1
    limited: bool = False
    stream: bool = False
    usage: bool = False
    base64: bool = False
    dimensions: int = 64
    events: bool = True  # a stream is written as events, not as a list
    form: str = ""  # in which the answer is wanted, where there is a choice
    text: bytes = b""
    cached: int = 0
    counts: bool = False  # how many tokens the prompt has is all that is asked

    @property
    def sequences(self) -> int:
        """How many sequences the engine works on."""
        return 1 if self.operation == "rerank" else len(self.seeds) * self.n


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. RefusalError if it is none."""
    try:
        ask = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusalError(400, "The body is not valid JSON.") from None
    if not isinstance(ask, dict):
        raise RefusalError(400, "The body must be a JSON object.")
    return ask


def read_model(ask: Mapping[str, Any]) -> str:
    """The model that is named. RefusalError if there is none."""
    model = ask.get("model")
    if not isinstance(model, str) or not model:
        raise RefusalError(400, "The body must name a model.", "model")
    return model


def read_ask(operation: Operation, body: bytes, headers: Mapping[bytes, bytes], usual: int, longest: int) -> Ask:
    """Read a body. `usual` and `longest` are the node's answer lengths in tokens. RefusalError if it makes no sense."""
    ask = read_object(body)
    model = read_model(ask)
    texts, prompt = _read_prompts(operation, ask)
    prompt = read_length(headers, prompt)
    seeds = tuple(crc32(text) for text in texts)
    if operation == "embedding":
        dimensions = read_count(ask, "dimensions", 8192) or 64
        return Ask(operation, model, prompt, 0, seeds, base64=_read_base64(ask), dimensions=dimensions)
    limit = read_count(ask, "max_completion_tokens") or read_count(ask, "max_tokens")
    answer, limited = measure(headers, limit, usual, longest)
    options = ask.get("stream_options") or {}
    return Ask(
        operation,
        model,
        prompt,
        answer,
        seeds,
        n=read_count(ask, "n", N_MAXIMUM) or 1,
        limited=limited,
        stream=read_switch(ask, "stream"),
        usage=read_switch(options, "include_usage") if isinstance(options, dict) else False,
        text=texts[0] if len(texts) == 1 else b"",
    )


def measure(headers: Mapping[bytes, bytes], limit: int | None, usual: int, longest: int) -> tuple[int, bool]:
    """The tokens of the answer, and whether the client's limit makes it so short."""
    exact = _read_header(headers, ANSWER_HEADER)
    if exact:
        return exact, False
    return min(limit or usual, longest), limit is not None and limit <= longest


def _read_prompts(operation: Operation, ask: dict[str, Any]) -> tuple[list[bytes], int]:
    """The prompts as bytes, and their tokens together."""
    if operation == "chat":
        messages = ask.get("messages")
        if not isinstance(messages, list) or not messages:
            raise RefusalError(400, "messages must be a list with at least one message.", "messages")
        text = join_messages(read_message(message) for message in messages)
        return [text.encode("utf-8", "surrogatepass")], len(text) // 4
    name = "prompt" if operation == "completion" else "input"
    given = ask.get(name)
    many = isinstance(given, list) and bool(given) and isinstance(given[0], str | list)
    prompts = given if many and isinstance(given, list) else [given]
    if len(prompts) > INPUTS_MAXIMUM:
        raise RefusalError(400, f"{name} may have at most {INPUTS_MAXIMUM} entries.", name)
    texts: list[bytes] = []
    tokens = 0
    for prompt in prompts:
        if isinstance(prompt, str) and prompt:
            texts.append(prompt.encode("utf-8", "surrogatepass"))
            tokens += len(prompt) // 4 + 1
        elif isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
            texts.append(repr(prompt).encode())
            tokens += len(prompt)
        else:
            raise RefusalError(400, f"{name} must be text, a list of texts, or lists of token numbers.", name)
    return texts, tokens


def join_messages(lines: Iterable[str]) -> str:
    """The prompt that messages become, as a template of an engine writes it, with four tokens before each."""
    return "\n".join(_BEFORE + line for line in lines)


def read_message(message: object) -> str:
    """A message as text."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise RefusalError(400, "Each message must be an object with a role.", "messages")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text", "") if isinstance(part, dict) else part for part in content]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise RefusalError(400, "content must be text or a list of parts.", "messages")
    return f"{message['role']}: {content or ''}"


def read_length(headers: Mapping[bytes, bytes], reckoned: int) -> int:
    """The tokens of the prompt: as the header says, else as reckoned."""
    return _read_header(headers, PROMPT_HEADER) or reckoned


def _read_header(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    given = headers.get(name)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 9 or int(given) < 1:
        raise RefusalError(400, f"{name.decode()} must be a number of tokens, 1 or more.")
    return int(given)


def read_count(ask: Mapping[str, Any], name: str, maximum: int = 10**9) -> int | None:
    """A whole number from 1 to `maximum`, None where it is not given."""
    given = ask.get(name)
    if given is None:
        return None
    if type(given) is not int or not 1 <= given <= maximum:
        raise RefusalError(400, f"{name} must be a whole number from 1 to {maximum}.", name)
    return given


def read_switch(ask: Mapping[str, Any], name: str) -> bool:
    """True or false, false where it is not given."""
    given = ask.get(name)
    if given is not None and not isinstance(given, bool):
        raise RefusalError(400, f"{name} must be true or false.", name)
    return bool(given)


def _read_base64(ask: Mapping[str, Any]) -> bool:
    given = ask.get("encoding_format")
    if given not in (None, "float", "base64"):
        raise RefusalError(400, "encoding_format must be float or base64.", "encoding_format")
    return bool(given == "base64")
