#!/usr/bin/env python3
"""Checks an evidence folder, or a proof file, of an attestlog store without any of the store's own code.

    check_evidence.py DIR [--public-key KEY]            the folder that `attestlog evidence` wrote
    check_evidence.py --proof FILE --public-key KEY     a C2SP tlog-proof, as `attestlog prove STORE SEQ` prints it
KEY is a C2SP verifier key, NAME+ID+BASE64. It should come from outside: a folder also holds the key of whoever made it,
and against that one alone a log that was rewritten whole and signed anew passes.
Needs Python 3.8 and the `cryptography` package. Ends with 0 if everything holds, else with 1 and the reason.
"""
import argparse, base64, functools, hashlib, itertools, json, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pathlib import Path

sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
unbase64 = lambda text: base64.b64decode(text, validate=True)
verify = lambda public, signature, text: Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode())

def need(holds, reason):
    if not holds:
        raise ValueError(reason)

def signed_by(name, public, text, signatures):
    """Whether one of a note's signature lines is this key's. A line that claims to be and does not hold is an error."""
    key_id = sha256(name.encode(), b"\n\x01", public)[:4]
    for line in signatures:
        dash, signer, blob = line.split(" ")
        if (dash, signer, unbase64(blob)[:4]) == ("\u2014", name, key_id):
            verify(public, unbase64(blob)[4:], text)
            return True
    return False

def open_checkpoint(note, key):
    """Checks the log key's signature on a checkpoint; gives the log's name, size and root, and the note's two parts."""
    name, key_id, public = key.split("+", 2)
    public = unbase64(public)
    need(len(public) == 33 and public[0] == 1, "the public key is not an Ed25519 key of a log")
    need(sha256(name.encode(), b"\n", public)[:4].hex() == key_id, "the public key's id is not that of its name and key")
    need("\n\n" in note and note.endswith("\n"), "the checkpoint is not a signed note")
    text, signatures = note[:-1].rsplit("\n\n", 1)
    text, signatures = text + "\n", signatures.split("\n")
    origin, size, root = text.split("\n")[:3]
    need(origin == name, f"the checkpoint is of {origin}, the key of {name}")
    need(signed_by(name, public[1:], text, signatures), "the checkpoint is not signed by this key")
    return name, int(size), unbase64(root), text, signatures

def check_proof(path, key):
    """RFC 9162 section 2.1.3.2: the entry's line, hashed up along the path, gives the root that was signed."""
    head, note = Path(path).read_bytes().decode().split("\n\n", 1)
    kind, extra, index, *hashes = head.split("\n")
    need(kind == "c2sp.org/tlog-proof@v1" and extra[:6] == "extra " and index[:6] == "index ", "this is no tlog-proof")
    _, size, root, _, _ = open_checkpoint(note, key)
    line, seq = unbase64(extra[6:]), int(index[6:])
    need(0 <= seq < size, f"entry {seq} is not among the {size} that the checkpoint covers")
    need(json.loads(line)["seq"] == seq, f"the line in the proof is not that of entry {seq}")
    node, here, last = sha256(b"\0", line), seq, size - 1
    for sibling in map(unbase64, hashes):
        need(last > 0, "the proof is too long")
        if here % 2 == 1 or here == last:
            node = sha256(b"\1", sibling, node)
            while here % 2 == 0 and here > 0:
                here, last = here // 2, last // 2
        else:
            node = sha256(b"\1", node, sibling)
        here, last = here // 2, last // 2
    need(last == 0 and node == root, f"the proof does not lead from entry {seq} to the checkpoint's root")
    return f"entry {seq} is in the log of {size} entries"

def tree_root(parts):
    """RFC 6962 section 2.1, from the perfect subtrees that make up the tree, largest first, as pairs of size and hash."""
    hashes = [node for _, node in reversed(parts)] or [sha256()]
    return functools.reduce(lambda right, left: sha256(b"\1", left, right), hashes)

def check_entries(path):
    """Adds up the rows. Gives size and root, the store's own entries by number, and what is gone as first and last."""
    size, parts, own, gone, before = 0, [], {}, [], bytes(32)
    for row in open(path, "rb"):
        need(row.endswith(b"\n"), "the last row is cut off")
        entry, count, node = json.loads(row), 1, sha256(b"\0", row[:-1])
        if "purged" in entry:
            first, count, node = (entry["purged"][key] for key in ("first", "count", "hash"))
            need(first == size and count & (count - 1) == 0 < count and size % count == 0, f"no subtree fits at entry {size}")
            node = bytes.fromhex(node)
            gone.append((size, size + count - 1))
        else:
            need(entry["seq"] == size, f"entry {entry['seq']} stands where entry {size} must")
            need(before in (None, bytes.fromhex(entry["prev"])), f"entry {size} does not name the hash of the one before it")
            if entry["kind"] in ("genesis", "key", "purge"):
                own[size] = entry["detail"]
            if entry["kind"] == "restore":
                own[size] = {"rotations": entry["detail"].get("rotations", [])}
            if "rotation" in own.get(size, ()):
                need(own[size]["rotation"]["root"] == tree_root(parts).hex(), f"entry {size} hands over another log")
        size, before = size + count, node if count == 1 else None
        while parts and parts[-1][0] == count:
            count, node = 2 * count, sha256(b"\1", parts.pop()[1], node)
        parts.append((count, node))
    return size, tree_root(parts), own, gone

def check_purges(rows, own, gone):
    """What is gone is what the purges took that are entries of the log: no more, no less, nothing twice."""
    due, named = {seq for seq, detail in own.items() if detail.get("cut_off") and detail["count"]}, []
    for row in map(json.loads, rows):
        ranges = [tuple(map(int, part.split("-"))) for part in row["seqs"].split(",")]
        digest = sha256("".join(f"{first}-{last}\n" for first, last in ranges).encode()).hex()
        need(row["seq"] in due and own[row["seq"]]["seqs"] == digest, f"purge {row['seq']} took another set of entries")
        due.remove(row["seq"])
        named += ranges
    need(not due, f"purges.jsonl does not say what the purges {sorted(due)} took")
    each = lambda ranges: (seq for first, last in sorted(ranges) for seq in range(first, last + 1))
    for seq, other in itertools.zip_longest(each(named), each(gone)):
        need(seq == other, f"entry {other if seq is None else seq}: gone without a purge, or purged and not gone")

def check_folder(folder, pinned):
    """The whole folder: signatures by the log key and by the epoch in force, every row, every purge."""
    inside = lambda name: Path(folder, name).read_bytes().decode()
    key = pinned or inside("public-key").strip()
    name, size, root, text, signatures = open_checkpoint(inside("checkpoint"), key)
    rows, computed, own, gone = check_entries(Path(folder, "entries.jsonl"))
    need(rows == size, f"there are {rows} entries, the checkpoint covers {size}")
    need(computed == root, f"the entries have the root {computed.hex()}, the checkpoint {root.hex()}")
    check_purges(inside("purges.jsonl").splitlines(), own, gone)
    json.loads(inside("report.json"))
    epoch, public = 0, unbase64(own[0]["epoch0"])
    need(own[0]["log_key"] == key and name.endswith("/" + sha256(public).hex()[:32]), "the first entry names other keys")
    handed = [(at, own[at]["rotation"]) for at in sorted(own) if "rotation" in own[at]]
    # Those of a history that was lost stand in the entry about the restoring, not in the entry of their size.
    handed += [(at, new) for at in sorted(own) for new in own[at].get("rotations", [])]
    for at, new in sorted(handed, key=lambda pair: pair[0]):
        epoch += 1
        at = new["size"] if "rotations" in own[at] else at
        old_root = base64.b64encode(bytes.fromhex(new["root"])).decode()
        said = f"attestlog/rotation@v1\n{name}\n{epoch}\n{new['public_key']}\n{at}\n{old_root}\n"
        verify(public, unbase64(new["signature"]), said)
        public = unbase64(new["public_key"])
    need(signed_by(f"{name}/epoch-{epoch}", public, text, signatures), f"the key of epoch {epoch} did not sign")
    lost = sum(last - first + 1 for first, last in gone)
    trust = "" if pinned else "; THE KEY IS THE FOLDER'S OWN: compare it with one from outside"
    return f"{size} entries of {name}, {lost} of them purged, signed in epoch {epoch}, root {root.hex()}{trust}"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--proof")
    parser.add_argument("--public-key")
    asked = parser.parse_args()
    if bool(asked.folder) == bool(asked.proof) or asked.proof and not asked.public_key:
        parser.error("give a folder, or --proof with --public-key")
    try:
        check, what = (check_folder, asked.folder) if asked.folder else (check_proof, asked.proof)
        print("OK:", check(what, asked.public_key))
    except InvalidSignature:
        sys.exit("WRONG: a signature does not hold")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as reason:
        sys.exit(f"WRONG: {reason}")
