"""The `anthropic` package, unchanged but for the base URL."""

from __future__ import annotations

import json
import sys

import anthropic

url, key, messages = sys.argv[1], sys.argv[2], [{"role": "user", "content": "hi"}]
ai = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
whole = ai.messages.create(model="claude", max_tokens=12, messages=messages)
with ai.messages.stream(model="claude", max_tokens=12, messages=messages) as stream:
    parts = list(stream.text_stream)
errors = {}
for name, client, model in (
    ("unknown", ai, "nobody"),
    ("stranger", anthropic.Anthropic(base_url=url, api_key="sk-wrong", max_retries=0), "claude"),
):
    try:
        client.messages.create(model=model, max_tokens=12, messages=messages)
    except anthropic.APIStatusError as error:
        errors[name] = [type(error).__name__, error.status_code]
tokens = whole.usage.input_tokens + whole.usage.output_tokens
print(json.dumps({"whole": whole.content[0].text, "parts": parts, "tokens": tokens, "errors": errors}))
