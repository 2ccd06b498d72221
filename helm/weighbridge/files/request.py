"""Sends one request through the gateway, for the first model that it serves, with the first of the callers' keys."""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

base = sys.argv[1]
keys = [path.read_text().strip() for path in sorted(Path("/keys").glob("[!.]*"))]
headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {keys[0]}"} if keys else {})
# The certificate names the entrance as callers know it, which is not what it is called here.
unverified = ssl._create_unverified_context() if base.startswith("https") else None


def ask(path: str, body: object = None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/{path}", data, headers)
    return urllib.request.urlopen(request, timeout=60, context=unverified)


try:
    with ask("models") as answer:
        models = [model["id"] for model in json.load(answer)["data"]]
    if not models:
        sys.exit("the gateway answers, but serves no model yet: apply a ModelNode")
    question = {"model": models[0], "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    with ask("chat/completions", question) as answer:
        print(f"{models[0]} was answered by {answer.headers.get('x-weighbridge-node', 'a node')}: {answer.status}")
except urllib.error.HTTPError as error:
    sys.exit(f"{error.url}: {error.code} {error.read(2000).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"{base}: {error}")
