"""What a client asks for with other APIs than OpenAI's first three, and with forms. Pure.

Responses (https://platform.openai.com/docs/api-reference/responses), Anthropic's messages
(https://docs.anthropic.com/en/api/messages), Gemini's contents (https://ai.google.dev/api/generate-content), rerank as
Jina, Cohere and vLLM have it, images, speech and transcription as OpenAI has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from weighbridge_simulator.ask import (
    INPUTS_MAXIMUM,
    N_MAXIMUM,
    Ask,
    Operation,
    RefusalError,
    join_messages,
    measure,
    read_ask,
    read_count,
    read_length,
    read_message,
    read_model,
    read_object,
    read_switch,
)
from weighbridge_simulator.form import read_form

_GEMINI = re.compile(r"/models/(.+):(generateContent|streamGenerateContent|countTokens)")
_COUNT = "/messages/count_tokens"
_AUDIO_BYTES = 640  # of a file for each token, at least one
Headers = Mapping[bytes, bytes]
OPERATIONS: Mapping[str, Operation] = {
    "/chat/completions": "chat",
    "/completions": "completion",
    "/embeddings": "embedding",
    "/responses": "response",
    "/messages": "message",
    _COUNT: "message",
    "/rerank": "rerank",
    "/images/generations": "image",
    "/images/edits": "image",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "transcription",
}


def find_operation(path: str) -> Operation | None:
    """What the path behind the base path is for; None if there is nothing."""
    return "content" if _GEMINI.fullmatch(path) else OPERATIONS.get(path)


def read_question(
    operation: Operation, path: str, query: str, body: bytes, headers: Headers, usual: int, longest: int
) -> Ask:
    """Read a request. `usual` and `longest` are answer lengths in tokens. RefusalError if it makes no sense."""
    if operation in ("chat", "completion", "embedding"):
        return read_ask(operation, body, headers, usual, longest)
    content_type = headers.get(b"content-type", b"")
    if operation in ("image", "transcription") and content_type.lower().startswith(b"multipart/"):
        ask: dict[str, Any] = {
            name: value if name in ("file", "image", "image[]", "mask") else value.decode("utf-8", "replace")
            for name, value in read_form(body, content_type).items()
        }
        ask |= {name: _read_field(ask[name]) for name in ("n", "stream") if name in ask}
    else:
        ask = read_object(body)
    match operation:
        case "content":
            return _read_content(path, query, ask, headers, usual, longest)
        case "rerank":
            return _read_ranking(ask, headers)
        case "response" | "message":
            return _read_turns(operation, ask, headers, usual, longest, counts=path == _COUNT)
        case _:
            return _read_media(operation, ask, headers, usual, longest)


def _read_field(text: str) -> object:
    """A form's text as JSON would have it."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _read_turns(
    operation: Operation, ask: dict[str, Any], headers: Headers, usual: int, longest: int, counts: bool
) -> Ask:
    if operation == "response":
        given, name, limit = ask.get("input"), "input", read_count(ask, "max_output_tokens")
        turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    else:
        turns, name, limit = ask.get("messages"), "messages", read_count(ask, "max_tokens")
        if limit is None and not counts:
            raise RefusalError(400, "max_tokens must be given.", "max_tokens")
    if not isinstance(turns, list) or not turns:
        raise RefusalError(400, f"{name} must have at least one message.", name)
    text = join_messages(read_message(turn) for turn in turns)
    prompt = read_length(headers, len(text) // 4)
    answer, limited = measure(headers, limit, usual, longest)
    if operation == "message" and limit is not None and limit > usual:
        answer, limited = min(answer, usual), False
    stream = read_switch(ask, "stream")
    model, written = read_model(ask), text.encode("utf-8", "surrogatepass")
    seeds = (crc32(written),)
    return Ask(operation, model, prompt, answer, seeds, limited=limited, stream=stream, text=written, counts=counts)


def _read_content(path: str, query: str, ask: dict[str, Any], headers: Headers, usual: int, longest: int) -> Ask:
    found = _GEMINI.fullmatch(path)
    assert found is not None
    contents, options = ask.get("contents"), ask.get("generationConfig") or {}
    if not isinstance(contents, list) or not contents or not isinstance(options, dict):
        raise RefusalError(400, "contents must be a list with at least one content.")
    texts = []
    for content in contents:
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list):
            raise RefusalError(400, "Each content must be an object with a list of parts.")
        texts += [str(part.get("text", "")) for part in parts if isinstance(part, dict)]
    text = "\n".join(texts)
    written = text.encode("utf-8", "surrogatepass")
    answer, limited = measure(headers, read_count(options, "maxOutputTokens"), usual, longest)
    return Ask(
        "content",
        found[1],
        read_length(headers, len(text) // 4 + 4),
        answer,
        (crc32(written),),
        limited=limited,
        text=written,
        stream=found[2] == "streamGenerateContent",
        counts=found[2] == "countTokens",
        events="alt=sse" in query.split("&"),
    )


def _read_ranking(ask: dict[str, Any], headers: Headers) -> Ask:
    query, documents = ask.get("query"), ask.get("documents")
    if not isinstance(query, str):
        raise RefusalError(400, "query must be text.", "query")
    if not isinstance(documents, list) or not documents or len(documents) > INPUTS_MAXIMUM:
        raise RefusalError(400, f"documents must be a list of 1 to {INPUTS_MAXIMUM}.", "documents")
    texts = [document if isinstance(document, str) else repr(document) for document in documents]
    prompt = sum(len(text) // 4 + 1 for text in texts) + len(query) // 4 + 1
    seeds = tuple(crc32(f"{query}\n{text}".encode("utf-8", "surrogatepass")) for text in texts)
    most = read_count(ask, "top_n") or len(texts)
    return Ask("rerank", read_model(ask), read_length(headers, prompt), 0, seeds, n=min(most, len(texts)))


def _read_media(operation: Operation, ask: dict[str, Any], headers: Headers, usual: int, longest: int) -> Ask:
    name = {"image": "prompt", "speech": "input", "transcription": "file"}[operation]
    given = ask.get(name)
    if not isinstance(given, bytes if operation == "transcription" else str) or not given:
        raise RefusalError(400, f"{name} must be given.", name)
    known, usual_form = _FORMS[operation]
    form = ask.get("response_format", usual_form)
    if form not in known:
        raise RefusalError(400, f"response_format must be one of {', '.join(known)}.", "response_format")
    data = given if isinstance(given, bytes) else given.encode("utf-8", "surrogatepass")
    prompt = len(data) // (_AUDIO_BYTES if operation == "transcription" else 4) + 1
    answer, _ = measure(headers, None, max(1, len(data) // 8) if operation == "speech" else usual, longest)
    return Ask(
        operation,
        read_model(ask),
        min(read_length(headers, prompt), longest),
        answer,
        (crc32(data),),
        n=(read_count(ask, "n", N_MAXIMUM) or 1) if operation == "image" else 1,
        stream=read_switch(ask, "stream") if operation == "transcription" else False,
        form=str(form),
    )


_FORMS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "image": (("b64_json", "url"), "b64_json"),
    "speech": (("wav", "mp3", "pcm"), "mp3"),
    "transcription": (("json", "text", "verbose_json"), "json"),
}
