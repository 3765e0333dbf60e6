"""Reads the receipt and the snapshot of the test vectors as docs say, by nothing but Python's own library.

    python3 receipts/tests/independent.py FOLDER
"""

import hashlib
import json
import pathlib
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


def little(number, count):
    return number.to_bytes(count, "little")


def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return sha256(b"\x01" + root(leaves[:left]) + root(leaves[left:]))


def check_receipt(text):
    receipt = json.loads(text)
    assert json.dumps(receipt, indent=2, ensure_ascii=False) == text.rstrip("\n"), "another form"
    head = receipt["head"]
    digest = sha256(json.dumps(head, indent=2, ensure_ascii=False).encode())
    assert digest.hex() == receipt["digest"], "digest"
    prompt = sha256(b"".join(little(token, 4) for token in receipt["prompt"]))
    assert prompt.hex() == head["prompt"]["sha256"], "prompt"
    chain = sha256(
        b"polychord chain 1\0" + bytes.fromhex(head["model"]["sha256"] + head["guest"]) + prompt
    )
    leaves = []
    for number, step in enumerate(receipt["steps"]):
        assert step["step"] == number, "order"
        hashed = little(number, 8) + little(step["id"], 4) + bytes.fromhex(step["logits"])
        chain = sha256(chain + hashed)
        leaves.append(sha256(b"\x00" + hashed))
    assert chain.hex() == head["chain"], "chain"
    assert root(leaves).hex() == head["merkle_root"], "tree"
    return digest.hex()


def check_snapshot(data):
    """The digest of the whole; blocks that are compressed are only chained."""
    assert data[:16] == b"\x89PCSNAP\n" + little(1, 4) + little(0, 4), "header"
    chain, at, is_last = sha256(data[:16]), 16, False
    while not is_last:
        header = data[at : at + 12]
        stored = int.from_bytes(header[:4], "little")
        is_last = header[9] == 1
        content = data[at + 12 : at + 12 + stored]
        chain = sha256(chain + header + content)
        at += 12 + stored + 32
        assert data[at - 32 : at] == chain, f"block that ends at {at}"
    assert at == len(data), "what follows"
    return chain.hex()


folder = pathlib.Path(sys.argv[1])
print(check_receipt((folder / "receipt-1.json").read_text("utf-8")))
print(check_snapshot((folder / "snapshot-1.bin").read_bytes()))
