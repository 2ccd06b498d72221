"""LangChain's ChatOpenAI and OpenAIEmbeddings, unchanged but for the base URL and what README.md says of embeddings."""

from __future__ import annotations

import json
import sys

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

url, key = f"{sys.argv[1]}/v1", sys.argv[2]


def chat(model: str, key: str = key) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=0)


whole = chat("m").invoke("hi")
parts = [chunk.content for chunk in chat("m").stream("hi") if chunk.content]
embedded = OpenAIEmbeddings(
    model="e", base_url=url, api_key=key, check_embedding_ctx_length=False, max_retries=0
).embed_documents(["a", "b"])
# LangChain's own are kinds of these.
kinds = (openai.NotFoundError, openai.AuthenticationError, openai.InternalServerError)
errors = {}
for name, client in (("unknown", chat("nobody")), ("dead", chat("dead")), ("stranger", chat("m", "sk-wrong"))):
    try:
        client.invoke("hi")
    except openai.APIStatusError as error:
        kind = next((kind for kind in kinds if isinstance(error, kind)), type(error))
        errors[name] = [kind.__name__, error.status_code, error.code]
tokens = whole.usage_metadata["total_tokens"]
print(
    json.dumps({"whole": whole.content, "parts": parts, "tokens": tokens, "embedded": len(embedded), "errors": errors})
)
