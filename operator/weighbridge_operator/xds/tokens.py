"""What answers say of their tokens, for the request log: read by two of Envoy's filters, whole ones and streams apart.

The filter for JSON keeps a whole answer until it is complete, the one for streams reads each event; both cost CPU, so
that they run only where they are asked for. Numbers alone are taken, whatever a node writes there.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/sse_to_metadata_filter
"""

from __future__ import annotations

from weighbridge_operator.xds.build import Json, extension, untyped
from weighbridge_operator.xds.names import ASKED

#: Where OpenAI's APIs (chat, completions, embeddings; responses) and Anthropic's say it.
_PLACES = {
    "tokens_in": (
        "usage.prompt_tokens",
        "usage.input_tokens",
        "response.usage.input_tokens",
        "message.usage.input_tokens",
    ),
    "tokens_out": ("usage.completion_tokens", "usage.output_tokens", "response.usage.output_tokens"),
}
_JSON = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata"
_SSE = "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata"
_PARSER = "envoy.extensions.content_parsers.json.v3.JsonContentParser"


def read_tokens() -> list[Json]:
    """The filters."""
    rules = [_rule(name, place) for name, places in _PLACES.items() for place in places]
    whole = {"response_rules": {"rules": rules}}
    parser = {
        "name": "json",
        "typed_config": {"@type": f"type.googleapis.com/{_PARSER}", "rules": [{"rule": rule} for rule in rules]},
    }
    stream = {"response_rules": {"content_parser": parser}}
    return [
        extension("envoy.filters.http.json_to_metadata", _JSON, whole),
        untyped("envoy.filters.http.sse_to_metadata", _SSE, stream),
    ]


def _rule(name: str, place: str) -> Json:
    written = {"metadata_namespace": ASKED, "key": name, "type": "NUMBER"}
    return {"selectors": [{"key": key} for key in place.split(".")], "on_present": written}
