"""Requests of all kinds for a time, and whether the server grows: soak.py URL PID MINUTES [SAMPLES [PAUSE]].

Rounds of conversations that go on (more than there are sessions, so that they wait as snapshots and come back), of
streams that are closed, of clients that are killed, and of bodies that are none. After each, when nothing runs, memory,
descriptors, mappings and threads are read from /proc, and written to the file SAMPLES, a line of JSON each; then
all wait for PAUSE seconds. What they are in the last third of the time has to be within 2 % of the first third after a quarter for warming up; of threads, which come and go, there must not be more than before.
"""

import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlparse

url, pid, minutes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
samples_path = sys.argv[4] if len(sys.argv) > 4 else os.devnull
address = urlparse(url).netloc
CHAT = "/v1/chat/completions"
pause = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
draw = random.Random(7)


def post(path, body):
    connection = HTTPConnection(address, timeout=900)
    connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
    return connection, connection.getresponse()


class Talk:
    """A conversation, whose answers depend on its turns alone: it is repeated, and has to be the same."""

    first = {}

    def __init__(self, number):
        self.number = number
        self.begin()

    def begin(self):
        self.turns = [{"role": "system", "content": f"You count from {self.number}, and you are patient. " * 3}]

    def go_on(self):
        if len(self.turns) > 7:
            self.begin()
        self.turns.append({"role": "user", "content": f"And what comes after {len(self.turns)}?"})
        connection, response = post(CHAT, {"messages": self.turns, "max_tokens": 12, "seed": 5, "user": str(self.number)})
        answer = json.load(response)
        connection.close()
        if response.status == 429:
            self.turns.pop()
            return "refused"
        assert response.status == 200, answer
        text = answer["choices"][0]["message"]["content"]
        assert self.first.setdefault((self.number, len(self.turns)), text) == text, "another answer than before"
        self.turns.append({"role": "assistant", "content": text})
        return "answered"


def closes(_):
    connection, response = post(CHAT, {"messages": [{"role": "user", "content": "A long story."}], "max_tokens": 300, "stream": True})
    response.read(200)
    connection.close()
    return "closed"


def is_killed(_):
    code = f"""
import http.client, json, sys
connection = http.client.HTTPConnection({address!r})
body = {{"messages": [{{"role": "user", "content": "A long tale."}}], "max_tokens": 300, "stream": True}}
connection.request("POST", {CHAT!r}, json.dumps(body))
connection.getresponse().read(100)
print("reading", flush=True)
connection.sock.recv(10 ** 9)
"""
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    client.stdout.readline()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    return "killed"


def nonsense(_):
    body = draw.choice([b"", b"{", b"[" * 50_000, b'{"messages": 3}', os.urandom(1000)])
    connection, response = post(CHAT, body)
    assert response.status == 400, response.status
    connection.close()
    with socket.create_connection(address.split(":")) as half:
        half.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
    return "nonsense"


def metrics():
    connection = HTTPConnection(address, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if line.startswith("polychord_") and "le=" not in line}


def sample():
    for _ in range(600):
        now = metrics()
        if now["polychord_active"] == now["polychord_waiting"] == 0:
            break
        time.sleep(0.1)
    # Connections that were closed are noticed.
    time.sleep(0.3)
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    with open(f"/proc/{pid}/maps") as file:
        mappings = sum(1 for _ in file)
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "mappings": mappings,
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
    }


talks = [Talk(number) for number in range(8)]
counts, samples = {}, []
begun = time.monotonic()
end = begun + minutes * 60
with ThreadPoolExecutor(6) as pool:
    while time.monotonic() < end:
        jobs = [talk.go_on for talk in talks] + [lambda it=it: it(0) for it in (closes, closes, is_killed, nonsense)]
        draw.shuffle(jobs)
        for kind in pool.map(lambda job: job(), jobs):
            counts[kind] = counts.get(kind, 0) + 1
        samples.append(sample())
        with open(samples_path, "a") as file:
            file.write(json.dumps(samples[-1]) + "\n")
        time.sleep(pause)
total = metrics()
print(f"{len(samples)} rounds in {(time.monotonic() - begun) / 60:.1f} minutes: {counts}")
print(f"{total['polychord_generated_tokens_total']:,.0f} tokens, {total['polychord_restored_total']:,.0f} conversations "
      f"taken up again, {total['polychord_idle_conversations']:,.0f} wait; {total.get('polychord_faults_total', 0):,.0f} faults")
assert total["polychord_restored_total"] > 0 and total.get("polychord_faults_total", 0) == 0
steady = samples[len(samples) // 4 :]
third = max(1, len(steady) // 3)
failed = False
for key in ("memory", "descriptors", "mappings", "threads"):
    first, last = (statistics.mean(it[key] for it in part) for part in (steady[:third], steady[-third:]))
    change = last / first - 1
    print(f"{key}: {first:,.0f} and then {last:,.0f}, {change:+.2%}; {min(it[key] for it in samples):,} to {max(it[key] for it in samples):,}")
    if key == "threads":
        # Those for short work come, and end when there is none for a while.
        failed |= max(it[key] for it in steady[-third:]) > max(it[key] for it in samples[:-third]) + 1
    else:
        failed |= abs(change) > 0.02
assert not failed, "it is not flat"
