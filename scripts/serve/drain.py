"""SIGTERM: drain.py URL PID. An answer that runs is completed, and no other is begun."""

import json
import os
import signal
import sys
import threading
import time
import urllib.request

url, pid = sys.argv[1], int(sys.argv[2])
body = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 60, "stream": True}
request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
lines = []


def read():
    with urllib.request.urlopen(request, timeout=60) as response:
        lines.extend(response)


reader = threading.Thread(target=read)
reader.start()
while len(lines) == 0 and reader.is_alive():
    time.sleep(0.01)
time.sleep(0.2)
os.kill(pid, signal.SIGTERM)
reader.join()
assert lines[-2].strip() == b"data: [DONE]", lines[-3:]
start = time.monotonic()
while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
    assert time.monotonic() - start < 10, "it does not end"
    time.sleep(0.05)
