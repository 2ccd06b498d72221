"""Sends one request through the gateway, for the first model that it serves."""

import json
import sys
import urllib.error
import urllib.request

base = sys.argv[1]
question = [{"role": "user", "content": "hello"}]
try:
    with urllib.request.urlopen(f"{base}/models", timeout=10) as answer:
        models = [model["id"] for model in json.load(answer)["data"]]
    if not models:
        sys.exit("the gateway answers, but serves no model yet: apply a ModelNode")
    body = json.dumps({"model": models[0], "messages": question, "max_tokens": 8}).encode()
    request = urllib.request.Request(f"{base}/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        node = answer.headers.get("x-weighbridge-node", "a node")
        print(f"{models[0]} was answered by {node}: {answer.status}")
except urllib.error.HTTPError as error:
    sys.exit(f"{error.url}: {error.code} {error.read(2000).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"{base}: {error}")
