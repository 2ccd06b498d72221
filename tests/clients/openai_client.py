"""The `openai` package of Python, unchanged but for the base URL."""

from __future__ import annotations

import json
import sys

import openai

url, key, messages = sys.argv[1], sys.argv[2], [{"role": "user", "content": "hi"}]
ai = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
whole = ai.chat.completions.create(model="m", messages=messages)
parts = [
    chunk.choices[0].delta.content
    for chunk in ai.chat.completions.create(model="m", messages=messages, stream=True)
    if chunk.choices and chunk.choices[0].delta.content
]
embedded = ai.embeddings.create(model="e", input=["a", "b"])
errors = {}
for name, client, model in (
    ("unknown", ai, "nobody"),
    ("dead", ai, "dead"),
    ("stranger", ai.with_options(api_key="sk-wrong"), "m"),
):
    try:
        client.chat.completions.create(model=model, messages=messages)
    except openai.APIStatusError as error:
        errors[name] = [type(error).__name__, error.status_code, error.code]
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "parts": parts,
            "tokens": whole.usage.total_tokens,
            "embedded": len(embedded.data),
            "models": [model.id for model in ai.models.list()],
            "errors": errors,
        }
    )
)
