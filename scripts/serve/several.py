"""Several models by name: several.py URL, a server of `text` and, loaded on demand, of `vectors`."""

import json
import sys
import urllib.error
import urllib.request

url = sys.argv[1]


def ask(path, body=None):
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def loaded():
    return {model["id"]: model["loaded"] for model in ask("/v1/models")[1]["data"]}


def chat(**more):
    return ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **more})


assert loaded() == {"text": True, "vectors": False}
assert chat()[1]["model"] == chat(model="text")[1]["model"] == "text"
assert loaded()["vectors"] is False
status, answer = ask("/v1/embeddings", {"model": "vectors", "input": "Hi"})
assert status == 200 and len(answer["data"][0]["embedding"]) > 3, answer
assert loaded() == {"text": True, "vectors": True}
for path, body, word in [
    ("/v1/embeddings", {"input": "Hi"}, "no pooling"),
    ("/v1/embeddings", {"model": "other", "input": "Hi"}, "there is no model"),
    ("/v1/completions", {"model": "vectors", "prompt": "Hi"}, "/v1/embeddings"),
]:
    status, answer = ask(path, body)
    assert status in (400, 404) and word in answer["error"]["message"], answer
status, answer = chat(model="vectors")
assert status == 400 and "/v1/embeddings" in answer["error"]["message"], answer
