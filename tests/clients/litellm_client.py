"""LiteLLM's client, unchanged but for the base URL."""

from __future__ import annotations

import json
import sys

import litellm

litellm.suppress_debug_info = True
url, key, messages = f"{sys.argv[1]}/v1", sys.argv[2], [{"role": "user", "content": "hi"}]


def ask(model: str, key: str = key, **more: object) -> object:
    return litellm.completion(
        model=f"openai/{model}", messages=messages, api_base=url, api_key=key, num_retries=0, max_retries=0, **more
    )


whole = ask("m")
parts = [chunk.choices[0].delta.content for chunk in ask("m", stream=True) if chunk.choices[0].delta.content]
embedded = litellm.embedding(model="openai/e", input=["a", "b"], api_base=url, api_key=key)
errors = {}
for name, model, shown in (("unknown", "nobody", key), ("dead", "dead", key), ("stranger", "m", "sk-wrong")):
    try:
        ask(model, shown)
    except Exception as error:
        errors[name] = [type(error).__name__, error.status_code]
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "parts": parts,
            "tokens": whole.usage.total_tokens,
            "embedded": len(embedded.data),
            "errors": errors,
        }
    )
)
