"""The file of a model is cut while it is served: cut.py URL FILE. The server says so, and goes on."""

import json
import os
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

url, path = sys.argv[1:]


def ask(text):
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


assert ask("Hello")[0] == 200
os.truncate(path, os.path.getsize(path) // 4)
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(ask, [f"{number} is a number" for number in range(8)]))
# A session that has its weights goes on; one that needs them is told that the file was cut.
assert all(status == 200 or (status == 500 and "shrunk" in answer["error"]["message"]) for status, answer in answers), answers
assert any(status == 500 for status, _ in answers), answers
with urllib.request.urlopen(f"{url}/health", timeout=20) as response:
    assert response.status == 200
