"""What no client should send: faults.py URL PID. The server says what is wrong, and goes on."""

import json
import os
import socket
import subprocess
import sys
import time
from urllib.parse import urlparse

url, pid = sys.argv[1], int(sys.argv[2])
address = (urlparse(url).hostname, urlparse(url).port)


def raw(data, timeout=20):
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def post(path, body, length=None):
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    return raw(head.encode() + body)


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


def get(path):
    return raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())


def descriptors():
    return len(os.listdir(f"/proc/{pid}/fd"))


chat = "/v1/chat/completions"
before = descriptors()
# Half a head, and nothing more: ended when its time is over, which is looked at below.
half, half_begun = socket.create_connection(address), time.monotonic()
half.sendall(b"POST / HTTP/1.1\r\nhost:")
for body, expected in [
    (b"", 400),
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400),
    (b'{"messages": [], "max_tokens": 1}', (200, 400)),
    (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "n": 1000000000}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "stop": [""]}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"x": 1}}', 400),
    (b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "nonsense"}}', 400),
    (b'{"messages": [{"role": "user", "content": "' + b"x" * (2 << 20) + b'"}]}', 413),
]:
    answer = post(chat, body)
    code = status(answer)
    assert code in (expected if isinstance(expected, tuple) else (expected,)), (body[:80], answer[:400])
    if code >= 400:
        error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
        assert error["message"] and error["type"], error
assert status(post("/v1/completions", b'{"prompt": [99999999]}')) == 400
assert status(post("/v1/completions", b'{"prompt": ""}')) in (200, 400)
assert status(post("/detokenize", b'{"tokens": [99999999]}')) == 400
assert status(get("/nothing")) == 404
assert status(get(chat)) == 405
# A megabyte of headers, and lines that are none.
assert status(raw(b"GET / HTTP/1.1\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n")) in (0, 400, 431)
assert status(raw(b"nonsense\r\n\r\n")) in (0, 400)
# Half of a body, and then nothing; a client that goes away; many that say nothing.
with socket.create_connection(address) as connection:
    connection.sendall(f"POST {chat} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
silent = [socket.create_connection(address) for _ in range(64)]
story = json.dumps({"messages": [{"role": "user", "content": "Tell a long story."}], "stream": True, "max_tokens": 900})
asks = f"POST {chat} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(story)}\r\n\r\n{story}".encode()
for _ in range(16):
    connection = socket.create_connection(address)
    connection.sendall(asks)
    connection.recv(200)
    # Resets it, as a process that is killed does.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
# Clients that are killed while they read.
client = f"""
import socket
connection = socket.create_connection({address!r})
connection.sendall({asks!r})
while True:
    print(len(connection.recv(100)), flush=True)
"""
killed = [subprocess.Popen([sys.executable, "-c", client], stdout=subprocess.PIPE) for _ in range(4)]
for process in killed:
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
for path in ("/health", "/ready", "/", "/metrics", "/v1/models"):
    assert status(get(path)) == 200, path
page = get("/").decode()
assert "http://" not in page.split("\r\n\r\n", 1)[1], "the page loads something from elsewhere"
[connection.close() for connection in silent]
half.settimeout(30)
while half.recv(1000):
    pass
assert 5 < time.monotonic() - half_begun < 30, time.monotonic() - half_begun
half.close()
# All of it is given back: answers whose clients are gone have ended.
for _ in range(100):
    active = [line for line in get("/metrics").decode().splitlines() if line.startswith("polychord_active{")]
    if active and all(line.endswith(" 0") for line in active) and descriptors() <= before + 2:
        break
    time.sleep(0.1)
else:
    raise AssertionError((active, before, descriptors()))
