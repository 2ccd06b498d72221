"""What callers can ask for: each path with its type of request and how its body comes.

One table for the route table, the answers and the two scripts, which get their part of it as text.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge_operator.core.ir import Format, Kind

#: Bytes of a request's body; one more is 413. Clients of coding agents send megabytes.
BODY_LIMIT = 16 * 2**20
#: The same where the body may be a form: OpenAI's 25 MiB for a file, and room for the other fields.
FORM_LIMIT = 26 * 2**20
#: Bytes that a connection may hold unread, either way; where a route lets a body be kept whole, that may be longer.
#: Envoy reads from a connection until it holds so much: with the bodies' limit here, forty connections bring a gigabyte
#: before it next looks at its memory.
READ_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class Path:
    """A path under /v1 that takes POST. `form`: multipart/form-data is taken, too."""

    path: str
    type: str
    form: bool = False
    format: Format = "openai"

    @property
    def kind(self) -> Kind:
        """What its requests are."""
        return Kind(self.type, self.format)

    @property
    def limit(self) -> int:
        """Bytes of the largest body."""
        return FORM_LIMIT if self.form else BODY_LIMIT

    @property
    def suffix(self) -> str:
        """What a node finds behind its base path."""
        return self.path.removeprefix("/v1")


#: The most frequent first: the adapting script looks at them in this order.
PATHS: tuple[Path, ...] = (
    Path("/v1/chat/completions", "text"),
    Path("/v1/completions", "text"),
    Path("/v1/embeddings", "embedding"),
    Path("/v1/responses", "text"),
    Path("/v1/rerank", "rerank"),
    Path("/v1/images/generations", "image"),
    Path("/v1/images/edits", "image", form=True),
    Path("/v1/audio/speech", "audio"),
    Path("/v1/audio/transcriptions", "audio", form=True),
    Path("/v1/audio/translations", "audio", form=True),
    Path("/v1/messages", "text", format="anthropic"),
    Path("/v1/messages/count_tokens", "text", format="anthropic"),
)
#: Gemini names the model in the path: MODEL:method behind this, or behind another version of it.
GEMINI = "/v1beta/models/"
GEMINI_VERSIONS = ("v1beta", "v1", "v1alpha")
GEMINI_KIND = Kind("text", "gemini")
GEMINI_METHODS = ("generateContent", "streamGenerateContent", "countTokens")
GEMINI_PATHS = f"/({'|'.join(GEMINI_VERSIONS)})/models/.+:({'|'.join(GEMINI_METHODS)})"  # a regular expression
#: Behind these everything is Gemini's: its versions that OpenAI's API does not have.
GEMINI_ROOTS = tuple(f"/{version}/" for version in GEMINI_VERSIONS if version != "v1")
KINDS = (*dict.fromkeys(path.kind for path in PATHS), GEMINI_KIND)
#: Most requests are of these kinds: they have an entrance of their own, which costs less.
USUAL = (Kind("text"), Kind("embedding"))
#: What callers' paths begin with, by API: a node with this base path needs no other. Gemini's begin in several ways.
BASES: dict[Format, str | None] = {"openai": "/v1", "anthropic": "/v1", "gemini": None}


def word_of(kind: Kind) -> str:
    """What the route header starts with."""
    return kind.type if kind.format == "openai" else f"{kind.format}.{kind.type}"


def limit_of(kind: Kind) -> int:
    """Bytes of the largest body among the kind's requests."""
    return max((path.limit for path in PATHS if path.kind == kind), default=BODY_LIMIT)


def write_tables() -> str:
    """What the entrance's script knows of paths, as Lua."""
    plain = _table({path.path: word_of(path.kind) for path in PATHS if not path.form})
    forms = _table({path.path: word_of(path.kind) for path in PATHS if path.form})
    methods = _table(dict.fromkeys(GEMINI_METHODS, word_of(GEMINI_KIND)))
    versions = _table(dict.fromkeys(GEMINI_VERSIONS, word_of(GEMINI_KIND)))
    return f"local PLAIN = {plain}\nlocal FORMS = {forms}\nlocal METHODS = {methods}\nlocal VERSIONS = {versions}\n"


def write_suffixes() -> str:
    """What the adapting script knows of paths, as Lua."""
    return "local SUFFIXES = {" + ", ".join(f'"{path.suffix}"' for path in PATHS) + "}\n"


def _table(entries: dict[str, str]) -> str:
    return "{" + ", ".join(f'["{key}"] = "{value}"' for key, value in entries.items()) + "}"
