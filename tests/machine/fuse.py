"""A file system with one file, which is slow or fails: fuse.py FOLDER FILE SECONDS [FAIL_AFTER].

Mounts a file system over FOLDER (root, in a mount namespace of its own) that shows FILE as `model.gguf`, and takes
SECONDS for each read; after FAIL_AFTER reads, each is EIO. Speaks the kernel's protocol itself, since no library for it
is on every machine. Prints "ready", and serves until it is killed.
"""

import ctypes
import errno
import os
import struct
import sys
import time

folder, source, seconds = sys.argv[1], os.open(sys.argv[2], os.O_RDONLY), float(sys.argv[3])
fail_after = int(sys.argv[4]) if len(sys.argv) > 4 else None
size, reads = os.fstat(source).st_size, 0
device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"slow", folder.encode(), b"fuse", 6, options):
    sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")

LOOKUP, GETATTR, OPEN, READ, STATFS, INIT, OPENDIR = 1, 3, 14, 15, 17, 26, 27
FORGETS = (2, 36, 42)  # Forget, interrupt and forget many: there is no answer.
ROOT, FILE = 1, 2


def attributes(node):
    mode, bytes_ = (0o40755, 0) if node == ROOT else (0o100444, size)
    return struct.pack("<6Q10I", node, bytes_, bytes_ // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def read(body):
    global reads
    offset, count = struct.unpack_from("<QI", body, 8)
    reads += 1
    time.sleep(seconds)
    if fail_after is not None and reads > fail_after:
        raise OSError(errno.EIO, "")
    return os.pread(source, count, offset)


def answer(operation, node, body):
    if operation == INIT:
        major, minor, ahead, _ = struct.unpack_from("<4I", body)
        return struct.pack("<4I2H2I", 7, min(minor, 31), ahead, 0, 4, 3, 1 << 16, 1) + bytes(36)
    if operation == LOOKUP:
        if body.rstrip(b"\0") != b"model.gguf":
            raise OSError(errno.ENOENT, "")
        return struct.pack("<4Q2I", FILE, 0, 60, 60, 0, 0) + attributes(FILE)
    if operation == GETATTR:
        return struct.pack("<Q2I", 60, 0, 0) + attributes(node)
    if operation in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 1, 0, 0)
    if operation == READ:
        return read(body)
    if operation == STATFS:
        return bytes(80)
    if operation in (16, 18, 25, 29):  # Closing.
        return b""
    raise OSError(errno.ENOSYS, "")


print("ready", flush=True)
while True:
    request = os.read(device, 1 << 20)
    _, operation, number, node = struct.unpack_from("<2I2Q", request)
    if operation in FORGETS:
        continue
    try:
        error, reply = 0, answer(operation, node, request[40:])
    except OSError as refused:
        error, reply = -refused.errno, b""
    try:
        os.write(device, struct.pack("<IiQ", 16 + len(reply), error, number) + reply)
    except OSError:
        pass  # Who asked has gone.
