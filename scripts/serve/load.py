"""Load on a server: load.py URL PID CLIENTS REQUESTS TOKENS prints a line of JSON.

CLIENTS connections ask at the same time, REQUESTS each, for TOKENS tokens that stream. Nothing but Python's own
library, so that the client takes little of the machine that it shares. The server is Polychord's, or that of
llama-cpp-python, whose tokens are counted as pieces of its streams.
"""

import json
import sys
import threading
import time
import urllib.parse
from http.client import HTTPConnection

url, pid, clients, requests, tokens = sys.argv[1], *map(int, sys.argv[2:])
address = urllib.parse.urlparse(url).netloc
JSON = {"Content-Type": "application/json"}
QUESTION = "Tell me about the number {}, as long as you like, and why people care about it."
firsts, between, failures, pieces, lock = [], [], [], [], threading.Lock()


def memory():
    """Bytes that are resident, and of these what no file has."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return [int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon")]


def ask(number):
    body = {
        "messages": [{"role": "user", "content": QUESTION.format(number)}],
        "max_tokens": tokens,
        "stream": True,
        "seed": 1,
        # So that all answers are as long.
        "logit_bias": bias,
    }
    connection = HTTPConnection(address, timeout=600)
    begun = last = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), JSON)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read()[:200]}")
    count, gaps, first = 0, [], None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter()
        if b'"content"' not in line:
            continue
        if first is None:
            first = now - begun
        else:
            gaps.append(now - last)
        last, count = now, count + 1
    connection.close()
    if first is None:
        raise RuntimeError("an answer has no text")
    with lock:
        firsts.append(first)
        pieces.append(count)
        between.extend(gaps)
    return count


def client(index):
    for request in range(requests):
        try:
            ask(index * requests + request)
        except Exception as error:  # noqa: BLE001: counted and shown
            with lock:
                failures.append(repr(error))


def at(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


def counted():
    connection = HTTPConnection(address, timeout=60)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    lines = response.read().decode().splitlines()
    if response.status == 404:
        return sum(pieces)
    return sum(float(line.split()[-1]) for line in lines if line.startswith("polychord_generated_tokens_total"))


def ends():
    """Control tokens that would end an answer."""
    text = "<|im_end|><|endoftext|>"
    for path, name in [("/tokenize", "content"), ("/extras/tokenize", "input")]:
        connection = HTTPConnection(address, timeout=60)
        connection.request("POST", path, json.dumps({name: text}), JSON)
        response = connection.getresponse()
        said = json.loads(response.read())
        if response.status == 200:
            return {str(id): -100 for id in said["tokens"]}
    raise RuntimeError(f"the server makes no tokens of a text: {said}")


bias = ends()
before = counted()
begun = time.perf_counter()
threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
seconds = time.perf_counter() - begun
resident, private = memory()
result = {
    "clients": clients,
    "failures": failures,
    "tokens": counted() - before,
    "seconds": seconds,
    "tokens_per_second": (counted() - before) / seconds,
    "first_p50": at(firsts, 0.5),
    "first_p99": at(firsts, 0.99),
    "between_p50": at(between, 0.5),
    "between_p99": at(between, 0.99),
    "resident": resident,
    "private": private,
}
print(json.dumps(result))
