"""A server that can write nothing: full.py URL. Answers are as ever; conversations are not kept."""

import json
import sys
import urllib.request

url = sys.argv[1]


def ask(text):
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    return answer["choices"][0]["message"]["content"]


texts = ["Count to three. " * 8, "Name a color, please. " * 8]
first = [ask(text) for text in texts]
assert [ask(text) for text in texts] == first
