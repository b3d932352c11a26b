#!/usr/bin/env python3
"""Checks root and signature of this folder, in as few lines as it takes: read them, or type them anew.

    python3 -I check.py

verify.py checks everything else as well, also whether the log says that it purged what is missing. Needs Python 3 and its package
`cryptography`. The key is the folder's own: compare it with one that you have from elsewhere.
"""
import sys

# Python would look for modules in the folder of this file, where whoever made the folder can put some, and perhaps where this is run.
# First the standard library, so that nothing else stands in for `os`; then neither of the two.
sys.path[:] = sorted((p for p in sys.path if p[:1] in ("/", "\\") or p[1:2] == ":"), key=lambda p: not p.startswith(sys.base_prefix))
import os

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [p for p in sys.path if os.path.realpath(p) not in (HERE, os.path.realpath(os.getcwd()))]
os.chdir(HERE)

import base64
import hashlib
import json
import stat

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def hashed(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def regular(name):
    assert stat.S_ISREG(os.lstat(name).st_mode), name + " is not a regular file"
    return open(name, "rb")


# Every row is a leaf, or a node that stands for purged entries; two nodes of one size make one of twice the size.
nodes, size, here = [], 0, 0
for row in iter(lambda rows=regular("entries.jsonl"): rows.readline(1 << 26), b""):
    gone = json.loads(row).get("purged")
    count, node = (gone["count"], bytes.fromhex(gone["hash"])) if gone else (1, hashed(b"\0", row[:-1]))
    assert row[-1:] == b"\n" and (not gone or gone["first"] == size and size % count == 0 and count & count - 1 == 0), "a row is malformed"
    size, here = size + count, here + (not gone)
    while nodes and nodes[-1][0] == count:
        count, node = 2 * count, hashed(b"\1", nodes.pop()[1], node)
    nodes.append((count, node))
while len(nodes) > 1:
    (_, left), (_, right) = nodes[-2:]
    nodes[-2:] = [(0, hashed(b"\1", left, right))]
root = base64.b64encode(nodes[0][1] if nodes else hashed()).decode()

text, signatures = regular("checkpoint").read(1 << 18).decode().rsplit("\n\n", 1)
name, _, key = regular("public-key").read(1 << 12).decode().strip().split("+", 2)
assert text.split("\n")[:3] == [name, str(size), root], "the entries are not those of the checkpoint"
line = next(one for one in signatures.split("\n") if one.startswith("\u2014 " + name + " "))
# Raises InvalidSignature if the signature does not hold.
Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(base64.b64decode(line.split(" ")[2])[4:], (text + "\n").encode())
sys.stdout.reconfigure(errors="backslashreplace")
print("OK: root %s of %d entries, signed by %s+%s" % (root, size, name, key))
print("%d of them are here. Of %d there are only hashes: whether the log says that it purged them, verify.py checks." % (here, size - here))
