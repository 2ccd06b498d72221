"""Sends one chat through the gateway: to the first model that takes it, with the first good one of the keys."""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

base, folder = sys.argv[1], Path(sys.argv[2])
keys = {path.name: path.read_text().strip() for path in sorted(folder.glob("[!.]*"))} or {"": ""}
# The certificate names the entrance as callers know it, which is not what it is called here.
unverified = ssl._create_unverified_context() if base.startswith("https") else None


def ask(path: str, key: str, body: object = None):
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/{path}", data, headers)
    return urllib.request.urlopen(request, timeout=60, context=unverified)


def try_keys():
    for caller, key in keys.items():
        try:
            with ask("models", key) as answer:
                return key, [model["id"] for model in json.load(answer)["data"]]
        except (urllib.error.HTTPError, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code != 401:
                raise
            print(f"the key of {caller or 'nobody'} lets nobody in: see PROBLEMS of `weighbridge status --kubernetes`")
    sys.exit("no key of the Secret is good")


def try_models(key, models):
    for model in models:
        question = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        try:
            with ask("chat/completions", key, question) as answer:
                return f"{model} was answered by {answer.headers.get('x-weighbridge-node', 'a node')}: {answer.status}"
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
    sys.exit(f"no model takes chat: {', '.join(models)}")


try:
    key, models = try_keys()
    if not models:
        sys.exit("the gateway answers, but serves no model yet: apply a ModelNode")
    print(try_models(key, models))
except urllib.error.HTTPError as error:
    told = error.read(2000).decode(errors="replace")
    sys.exit(f"{error.url}: {error.code} {told}\n`kubectl get modelnodes -o wide` tells what is wrong with the nodes")
except OSError as error:
    sys.exit(f"{base}: {error}; `kubectl get pods` tells whether an Envoy is ready")
