"""Keys and logs: private.py URL KEY LOG. What clients say is in no log, and neither are keys."""

import json
import sys
import time
import urllib.error
import urllib.request

url, key, log = sys.argv[1:]


def ask(path, body=None, given=None):
    headers = {"content-type": "application/json"}
    if given:
        headers["authorization"] = f"Bearer {given}"
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


chat = {"messages": [{"role": "user", "content": "xyzzyprompt"}], "max_tokens": 8, "user": "xyzzyuser"}
ids = []
for path, body in [
    ("/v1/chat/completions", chat),
    ("/v1/chat/completions", {**chat, "stream": True}),
    ("/v1/chat/completions", {**chat, "top_p": 9}),
    ("/v1/completions", {"prompt": "xyzzyprompt", "max_tokens": 4}),
    ("/tokenize", {"content": "xyzzyprompt"}),
    ("/v1/embeddings", {"input": "xyzzyprompt"}),
    ("/v1/models/xyzzymodel", None),
    ("/xyzzypath?xyzzyquery", None),
]:
    assert ask(path, body)[0] in (401, 404), path
    assert ask(path, body, "xyzzywrong")[0] in (401, 404), path
    status, headers, _ = ask(path, body, key)
    assert status != 401, (path, status)
    ids.append(headers["x-request-id"])
assert len(set(ids)) == len(ids), ids
time.sleep(0.5)
with open(log) as file:
    text = file.read()
for id in ids:
    assert text.count(id) == 1, (id, text)
for secret in ("xyzzy", key):
    lines = [line for line in text.splitlines() if secret in line]
    assert not lines, lines
