#!/usr/bin/env python3
"""Checks root and signature of this folder, in as few lines as it takes: read them, or type them anew.

    python3 check.py

verify.py checks everything else as well. Needs Python 3 and its package `cryptography`. The key is the folder's own: compare it with
one that you have from elsewhere.
"""
import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def hashed(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Every row is a leaf, or a node that stands for purged entries; two nodes of one size make one of twice the size.
nodes = []
for row in open("entries.jsonl", "rb"):
    gone = json.loads(row).get("purged")
    count, node = (gone["count"], bytes.fromhex(gone["hash"])) if gone else (1, hashed(b"\0", row[:-1]))
    while nodes and nodes[-1][0] == count:
        count, node = 2 * count, hashed(b"\1", nodes.pop()[1], node)
    nodes.append((count, node))
size = sum(count for count, _ in nodes)
while len(nodes) > 1:
    (_, left), (_, right) = nodes[-2:]
    nodes[-2:] = [(0, hashed(b"\1", left, right))]
root = base64.b64encode(nodes[0][1] if nodes else hashed()).decode()

text, signatures = open("checkpoint", encoding="utf-8").read().rsplit("\n\n", 1)
name, _, key = open("public-key", encoding="utf-8").read().strip().split("+", 2)
assert text.split("\n")[:3] == [name, str(size), root], "the entries are not those of the checkpoint"
line = next(one for one in signatures.split("\n") if one.startswith("\u2014 " + name + " "))
# Raises InvalidSignature if the signature does not hold.
Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(base64.b64decode(line.split(" ")[2])[4:], (text + "\n").encode())
print("OK: %d entries with the root %s, signed by %s+%s" % (size, root, name, key))
