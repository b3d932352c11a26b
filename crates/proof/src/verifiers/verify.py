#!/usr/bin/env python3
"""Checks a package or an evidence folder of an attestlog audit log, with no other part of it.

    python3 -I verify.py FOLDER --public-key KEY [--succession FILE] [--patient P] [--page-sha256 HEX] [--json]

KEY is the log's public key (NAME+ID+BASE64), or a file with it, FROM ELSEWHERE: the one in the folder shows nothing, since
whoever makes a folder chooses it. Needs Python 3.8 or newer and the package `cryptography`. Opens no network connection
and writes nothing. What is checked, and what a folder cannot show, is in docs/proof-format.md (the comments name its
sections). `-I` keeps Python away from what the environment names; leave it out if `cryptography` is installed for you alone.

Exit code: 0 proved under the given key; 1 not proved, or something was refused; 2 bad usage; 3 nothing was refused, but
no key was given.
"""
import sys

if __name__ == "__main__":
    # Python would look for modules in the folder of this file, where whoever made the folder can put some, and perhaps where this is
    # run. First the standard library, so that nothing else stands in for `os`; then neither of the two.
    sys.path[:] = sorted((p for p in sys.path if p[:1] in ("/", "\\") or p[1:2] == ":"), key=lambda p: not p.startswith(sys.base_prefix))
    import os
    sys.path[:] = [p for p in sys.path if os.path.realpath(p) not in map(os.path.realpath, (os.getcwd(), os.path.dirname(__file__)))]

import argparse
import base64
import bisect
import calendar
import hashlib
import io
import json
import os
import re
import stat

MAX_INT = (1 << 53) - 1
MAX_NOTE = 256 << 10
MAX_PROOF = 64 << 20
MAX_LISTED = 1 << 29
MAX_FILES = 1 << 20
MAX_KEY = 1 << 12
MAX_SUCCESSION = 1 << 24
MAX_TOGETHER = 1 << 30
ZERO = bytes(32)


class Refused(Exception):
    """Why nothing is proven."""


def need(holds, why):
    if not holds:
        raise Refused(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# --- 2 Text and numbers -----------------------------------------------------------------------------------------------

def text_of(data, what):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(what + " is not UTF-8")


def unbase64(text, what):
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, UnicodeEncodeError):
        raise Refused(what + " is not base64")
    need(base64.b64encode(data).decode() == text, what + " is not base64 as an encoder writes it")
    return data


def is_hex(value, digits):
    return isinstance(value, str) and len(value) == digits and re.fullmatch("[0-9a-f]*", value) is not None


def hash_of(value, what):
    need(is_hex(value, 64), what + " is not a hash")
    return bytes.fromhex(value)


def decimal(text, what):
    need(re.fullmatch("0|[1-9][0-9]{0,15}", text) is not None and int(text) <= MAX_INT, what + " is not a decimal number")
    return int(text)


def es_number(x):
    """A double as RFC 8785 writes it, which is as ECMAScript does."""
    if x == 0:
        return "0"
    if x < 0:
        return "-" + es_number(-x)
    mantissa, _, exponent = repr(x).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits, n = whole + fraction, len(whole) + int(exponent or 0)
    stripped = digits.lstrip("0")
    n -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    k = len(digits)
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    e = n - 1
    return digits[0] + ("." + digits[1:] if k > 1 else "") + "e" + ("+" if e > 0 else "-") + str(abs(e))


def utf16(name):
    return name.encode("utf-16-be", "surrogatepass")


def canonical(value, out, depth=0):
    need(depth <= 256, "JSON is nested too deep")
    if isinstance(value, str):
        need("\0" not in value, "JSON has a NUL")
        out.append(json.encoder.encode_basestring(value))
    elif value is True or value is False or value is None:
        out.append({True: "true", False: "false", None: "null"}[value])
    elif isinstance(value, int):
        out.append(str(value))
    elif isinstance(value, float):
        out.append(es_number(value))
    elif isinstance(value, list):
        out.append("[")
        for i, item in enumerate(value):
            if i:
                out.append(",")
            canonical(item, out, depth + 1)
        out.append("]")
    else:
        out.append("{")
        for i, name in enumerate(value if len(value) < 2 else sorted(value, key=utf16)):
            if i:
                out.append(",")
            canonical(name, out, 0)
            out.append(":")
            canonical(value[name], out, depth + 1)
        out.append("}")
    return out


def whole(token):
    if len(token) < 17 and abs(int(token)) <= MAX_INT:
        return int(token)
    return fraction(token)


def fraction(token):
    value = float(token)
    need(value - value == 0, "JSON has a number that is not finite")
    return value


def no_constant(name):
    raise Refused("JSON has " + name)


def parse(text, what):
    """The value of canonical JSON."""
    try:
        value = json.loads(text, parse_int=whole, parse_float=fraction, parse_constant=no_constant)
        same = "".join(canonical(value, [])) == text
    except (ValueError, RecursionError, OverflowError):
        raise Refused(what + " is not JSON")
    need(same, what + " is not canonical JSON")
    return value


def is_int(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT


def is_text(value):
    return isinstance(value, str)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_any(value):
    return True


TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}|[0-9]{6}|[0-9]{9}))?Z")


def nanoseconds(value):
    """A time as nanoseconds since 1970, or None if it is not one."""
    found = TIME.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if not found:
        return None
    year, month, day, hour, minute, second = (int(found.group(i)) for i in range(1, 7))
    digits = found.group(7) or ""
    if digits and (int(digits) == 0 or len(digits) > 3 and digits.endswith("000")):
        return None
    if year < 1 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    nanos = calendar.timegm((year, month, day, hour, minute, second)) * 10**9 + int(digits.ljust(9, "0"))
    return nanos if -(1 << 63) <= nanos < 1 << 63 else None


def is_time(value):
    return nanoseconds(value) is not None


# --- 3 Keys and signatures --------------------------------------------------------------------------------------------

P = (1 << 255) - 19
SMALL = (1 << 255) - 1
SMALL_ORDER = {
    0, 1, P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}
SPACES = {0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, *range(9, 14), *range(0x2000, 0x200B)}


def acceptable_point(data):
    y = int.from_bytes(data, "little") & SMALL
    return y < P and y not in SMALL_ORDER


def check_name(name, what):
    bad = any(ord(c) in SPACES or ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or c == "+" for c in name)
    need(name and len(name.encode()) <= 512 and not bad, what + " has no proper name")


def holds(public, signature, message):
    if len(signature) != 64 or not acceptable_point(signature[:32]):
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


class Key:
    def __init__(self, text):
        parts = text.split("+", 2)
        need(len(parts) == 3, "the public key is not NAME+ID+KEY")
        self.text, self.name = text, parts[0]
        check_name(self.name, "the public key")
        blob = unbase64(parts[2], "the public key")
        need(len(blob) == 33 and blob[0] == 1, "the public key is not an Ed25519 key")
        self.public = blob[1:]
        self.id = sha256(self.name.encode(), b"\n", blob)[:4]
        need(parts[1] == self.id.hex(), "the public key's id is not that of its name and key")
        need(acceptable_point(self.public), "the public key is one under which signatures prove nothing")


# --- 4 Checkpoints ----------------------------------------------------------------------------------------------------

class Checkpoint:
    def __init__(self, data, what):
        need(len(data) <= MAX_NOTE, what + " is too large")
        self.note = text_of(data, what)
        at = self.note.rfind("\n\n")
        need(at >= 0, what + " has no empty line")
        self.text, rest = self.note[:at + 1], self.note[at + 2:]
        need(not any(ord(c) < 0x20 and c != "\n" for c in self.text), what + " has a control character")
        lines = self.text[:-1].split("\n")
        need(len(lines) >= 3 and all(lines), what + " has fewer than three lines, or an empty one")
        self.origin, self.size = lines[0], decimal(lines[1], what + "'s size")
        self.root = unbase64(lines[2], what + "'s root")
        need(len(self.root) == 32, what + "'s root is not a hash")
        need(rest.endswith("\n"), what + " does not end in a newline")
        lines = rest[:-1].split("\n")
        need(len(lines) <= 64, what + " has too many signatures")
        self.signatures = []
        for line in lines:
            need(line.startswith("\u2014 "), what + " has a line that is no signature")
            name, space, blob = line[2:].partition(" ")
            need(space == " ", what + " has a line that is no signature")
            check_name(name, what + "'s signature")
            blob = unbase64(blob, what + "'s signature")
            need(len(blob) > 4, what + " has a signature that is too short")
            self.signatures.append((name, blob[:4], blob[4:]))

    def check(self, key):
        need(self.origin == key.name, "the checkpoint is of another log than the key")
        mine = [s for s in self.signatures if (s[0], s[1]) == (key.name, key.id)]
        need(mine, "the checkpoint is not signed by the log key")
        need(all(holds(key.public, s[2], self.text.encode()) for s in mine), "the signature of the log key does not hold")


# --- 4.1 Epochs ---

def is_point(data):
    """Whether these 32 bytes are a point of the curve: x^2 = (y^2 - 1) / (d y^2 + 1) has a solution."""
    y = int.from_bytes(data, "little") & SMALL
    square = (y * y - 1) * ((-121665 * pow(121666, P - 2, P)) * y * y + 1) % P
    return acceptable_point(data) and pow(square, (P - 1) // 2, P) <= 1


class Epoch:
    def __init__(self, origin, number, public, begins, rotation=None):
        self.number, self.public, self.begins, self.rotation = number, public, begins, rotation
        self.name = "%s/epoch-%d" % (origin, number)
        check_name(self.name, "an epoch")
        need(is_point(public), "the key of epoch %d is no key" % number)
        self.id = sha256(self.name.encode(), b"\n\1", public)[:4]


def epochs_of(data):
    """The log's name and its epochs, each vouched for by the one before it."""
    what = "the succession"
    text = text_of(data, what)
    value = parse(text[:-1] if text.endswith("\n") else text, what)
    if isinstance(value, dict) and "succession" in value:
        value = value["succession"]
    exactly(value, ["epoch0", "origin", "rotations"], what)
    origin = value["origin"]
    need(is_text(origin) and is_text(value["epoch0"]), what + " names no log")
    first = unbase64(value["epoch0"], what)
    name, _, end = origin.rpartition("/")
    need(len(first) == 32 and name and end == sha256(first)[:16].hex(), "the log's name does not end in the hash of this epoch 0")
    epochs = [Epoch(origin, 0, first, 0)]
    for one in items(value["rotations"], what):
        need(isinstance(one, dict), what + " has a rotation that is none")
        exactly({name: of for name, of in one.items() if name != "restored_at"}, ["number", "public_key", "root", "signature", "size"], what)
        need(is_u32(one["number"]) and is_int(one["size"]) and is_text(one["public_key"]) and is_text(one["signature"]), what + " has a rotation that is none")
        restored = one.get("restored_at")
        need("restored_at" not in one or is_int(restored), what + " has a rotation that is none")
        public, signature, root = unbase64(one["public_key"], what), unbase64(one["signature"], what), hash_of(one["root"], what)
        need(len(public) == 32, what + " has a rotation that is none")
        last = epochs[-1]
        need(one["number"] == last.number + 1, "an epoch is missing, or comes twice")
        begins = one["size"] if restored is None else restored
        together = restored is not None and last.rotation is not None and last.rotation["restored_at"] == restored
        need(begins > last.begins or together, "an epoch does not begin after the one before it")
        said = "attestlog/rotation@v1\n%s\n%d\n%s\n%d\n%s\n" % (origin, one["number"], one["public_key"], one["size"], base64.b64encode(root).decode())
        need(holds(last.public, signature, said.encode()), "a rotation is not signed by the epoch before it")
        need(all(public != epoch.public for epoch in epochs), "an epoch has a key that was used before")
        epochs.append(Epoch(origin, one["number"], public, begins, {"restored_at": restored, "root": root, "size": one["size"]}))
    return origin, epochs


def epoch_of(checkpoint, succession):
    """The number of the epoch that signed the checkpoint, and whether it is closed; (None, False) without a succession."""
    if succession is None:
        return None, False
    origin, epochs = epochs_of(succession)
    need(checkpoint.origin == origin, "the succession is of another log")
    epoch = epochs[max(bisect.bisect_left([one.begins for one in epochs], checkpoint.size) - 1, 0)]
    mine = [s for s in checkpoint.signatures if (s[0], s[1]) == (epoch.name, epoch.id)]
    need(mine, "the checkpoint is not signed by epoch %d, which was in force" % epoch.number)
    need(all(holds(epoch.public, s[2], checkpoint.text.encode()) for s in mine), "the signature of the epoch does not hold")
    following = epochs[epoch.number + 1:epoch.number + 2]
    rotation = following[0].rotation if following else None
    ended_here = rotation is not None and rotation["restored_at"] is None and rotation["size"] == checkpoint.size
    need(not ended_here or rotation["root"] == checkpoint.root, "the epoch that follows states another root for this size")
    return epoch.number, rotation is not None and not ended_here


# --- 5 The tree -------------------------------------------------------------------------------------------------------

def check_path(index, size, leaf, path, root, what):
    need(index < size, what + " is beyond the tree")
    inner = (index ^ size - 1).bit_length()
    need(len(path) == inner + bin(index >> inner).count("1"), what + " has a path of another length than it needs")
    node = leaf
    for level, sibling in enumerate(path):
        left = level >= inner or index >> level & 1
        node = sha256(b"\1", sibling, node) if left else sha256(b"\1", node, sibling)
    need(node == root, what + " does not lead to the root")


# --- 6 Lines ----------------------------------------------------------------------------------------------------------

CALLS = {"tool_call", "call_begun", "call_detail"}
OWN = set(
    "genesis policy hold_placed hold_released purge clock key index_batch backup restore erasure reveal alert alert_ack "
    "break_glass_opened break_glass_closed break_glass_reviewed restore_confirmed".split()
)


def one_of(*names):
    return lambda value: isinstance(value, str) and value in names


def texts(value):
    return isinstance(value, list) and len(value) > 0 and all(isinstance(one, str) for one in value)


def is_true(value):
    return value is True


def shape(required, optional):
    def fits(value):
        if not isinstance(value, dict) or any(name not in value for name in required):
            return False
        return all((required.get(name) or optional.get(name) or (lambda _: False))(of) for name, of in value.items())
    return fits


def list_of(fits):
    return lambda value: isinstance(value, list) and len(value) > 0 and all(fits(one) for one in value)


def is_digest(value):
    return isinstance(value, str) and value.startswith("sha256:") and is_hex(value[7:], 64)


def is_u32(value):
    return is_int(value) and value < 1 << 32


ALL_OF = {
    "kind": is_text, "seq": is_int, "prev": lambda v: is_hex(v, 64), "nonce": lambda v: is_hex(v, 32), "recorded_at": is_time,
}
CALL_OF = dict(ALL_OF, timestamp=is_time, conversation_id=is_text, user_id=is_text, tool_name=is_text, policy_seq=is_int)
MAY = {"retention_class": is_text, "retain_until": is_time}
CALL_MAY = dict(MAY)
for member in "agent_id call_id given model parent_agent_id parent_call_id prompt_id purpose span_id tool_server trace_id".split():
    CALL_MAY[member] = is_text
for member in "grant turn_number retry_of follow_up_of begun_seq detail_of".split():
    CALL_MAY[member] = is_int
for member in "backfilled emergency late_answer".split():
    CALL_MAY[member] = is_true
for member in "arguments session_metadata treated result_summary".split():
    CALL_MAY[member] = is_any
for member in "contradicts patient_ids restated".split():
    CALL_MAY[member] = texts
DIGESTS = shape({}, {"instructions": is_digest, "policy": is_digest, "tool_definition": is_digest})
CALL_MAY.update(
    call_trigger=one_of("user_request", "proactive", "retry", "follow_up", "system"),
    duration_ms=is_number,
    outcome=one_of("ok", "tool_error", "protocol_error", "denied", "timeout", "abandoned"),
    success=lambda value: isinstance(value, bool),
    error=shape({"message": is_text}, {"type": is_text}),
    sender=shape({"id": is_text, "number": is_int}, {}),
    approval=shape(
        {"decision": one_of("allowed", "denied", "cancelled")},
        {"answered_at": is_time, "asked_at": is_time, "by": is_text, "source": is_text},
    ),
    digests=lambda value: DIGESTS(value) and len(value) > 0,
    peer=shape({"gid": is_u32, "pid": is_u32, "uid": is_u32}, {"program": is_text, "started": is_time}),
    resources=list_of(shape({"kind": is_text, "name": is_text}, {})),
    sources=list_of(shape(
        {"source": one_of("hook", "session", "proxy", "telemetry", "import")},
        {"added": texts, "program": is_text, "version": is_text},
    )),
)
CALL_SHAPE, OWN_SHAPE = shape(CALL_OF, CALL_MAY), shape(dict(ALL_OF, detail=is_any), MAY)


def entry_of(text, what):
    entry = parse(text, what)
    need(isinstance(entry, dict), what + " is not an entry")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in CALLS:
        need(isinstance(kind, str) and kind in OWN and OWN_SHAPE(entry), what + " is not an entry")
    else:
        need(CALL_SHAPE(entry), what + " is not an entry")
        need("begun_seq" not in entry or kind == "tool_call", what + " has begun_seq")
        need(("detail_of" in entry) == (kind == "call_detail"), what + " has detail_of, or lacks it")
        other = "retry_of" if entry.get("call_trigger") == "follow_up" else "follow_up_of"
        need(other not in entry, what + " has " + other)
        if "outcome" in entry:
            need(entry.get("success") is (entry["outcome"] == "ok"), what + " contradicts its outcome")
        else:
            need(not {"success", "result_summary", "error"} & set(entry), what + " has no outcome")
    need(("retention_class" in entry) == ("retain_until" in entry), what + " has one of two members about retention")
    return entry


FACETS = {
    "conversation": 1, "user": 2, "tool": 3, "patient": 4, "model": 5, "outcome": 6, "trigger": 7, "purpose": 8, "emergency": 9,
    "kind": 10, "class": 11, "agent": 12, "server": 13, "resource": 14, "trace": 15, "peer": 17,
}
SIMPLE = {
    "conversation": "conversation_id", "user": "user_id", "tool": "tool_name", "model": "model", "trigger": "call_trigger",
    "purpose": "purpose", "class": "retention_class", "agent": "agent_id", "server": "tool_server", "trace": "trace_id", "kind": "kind",
}


def terms_of(entry, facet):
    call = entry["kind"] in CALLS
    if facet in SIMPLE:
        return [entry[SIMPLE[facet]]] if SIMPLE[facet] in entry else []
    if not call:
        return []
    if facet == "patient":
        return entry.get("patient_ids", [])
    if facet == "outcome":
        return [entry["outcome"]] if "outcome" in entry else [] if entry["kind"] == "call_detail" else ["begun"]
    if facet == "emergency":
        return ["true"] if "emergency" in entry else []
    if facet == "resource":
        return [one["name"] for one in entry.get("resources", [])]
    program = entry.get("peer", {}).get("program")
    return [] if program is None else [program]


def is_pseudonym(term):
    return term.startswith("ps_") and term[11:12] == "_" and is_hex(term[3:11], 8) and is_hex(term[12:], 32)


# --- 7 Sets of numbers ------------------------------------------------------------------------------------------------

class Set:
    def __init__(self, ranges):
        self.ranges = ranges
        self.firsts = [first for first, _ in ranges]

    def __contains__(self, seq):
        at = bisect.bisect_right(self.firsts, seq) - 1
        return at >= 0 and seq <= self.ranges[at][1]

    def __len__(self):
        return sum(last - first + 1 for first, last in self.ranges)

    def count(self):
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self):
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def text(self):
        return ",".join("%d-%d" % one for one in self.ranges)

    def digest(self):
        return sha256("".join("%d-%d\n" % one for one in self.ranges).encode())


def union(sets):
    joined = []
    for first, last in sorted(one for of in sets for one in of.ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return Set(joined)


def set_of_text(text, what):
    need(isinstance(text, str), what + " is not a set")
    ranges = []
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        first, last = decimal(first, what), decimal(last, what)
        need(dash and first <= last and (not ranges or first > ranges[-1][1] + 1), what + " is not a set")
        ranges.append((first, last))
    return Set(ranges)


def unpacked(data, what):
    numbers, at = [], 0
    while at < len(data):
        value = shift = 0
        while True:
            need(at < len(data) and shift < 63, what + " is not a packed set")
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                need(byte or shift == 7, what + " is not a packed set")
                break
        numbers.append(value)
    need(len(numbers) % 2 == 0, what + " is not a packed set")
    ranges, free = [], 0
    for gap, more in zip(numbers[::2], numbers[1::2]):
        first, last = free + gap, free + gap + more
        need(last <= MAX_INT, what + " is not a packed set")
        ranges.append((first, last))
        free = last + 2
    return Set(ranges)


def set_of(value, what):
    if not isinstance(value, dict):
        found = set_of_text(value, what)
        need(len(value) <= 4096, what + " should be packed")
        return found
    need(set(value) == {"packed"} and isinstance(value["packed"], str), what + " is not a set")
    found = unpacked(unbase64(value["packed"], what), what)
    need(len(found.text()) > 4096, what + " should not be packed")
    return found


# --- 8 Inclusion proofs -----------------------------------------------------------------------------------------------

def inclusion(data, what):
    """Seq, line and checkpoint of a tlog-proof that holds against the checkpoint in it."""
    need(len(data) <= MAX_PROOF, what + " is too large")
    head, empty, note = text_of(data, what).partition("\n\n")
    lines = head.split("\n")
    need(empty and len(lines) >= 3 and lines[0] == "c2sp.org/tlog-proof@v1", what + " is not a tlog-proof")
    need(lines[1].startswith("extra ") and lines[2].startswith("index "), what + " is not a tlog-proof")
    line, seq = unbase64(lines[1][6:], what), decimal(lines[2][6:], what)
    need(len(lines) <= 3 + 65, what + " has too many hashes")
    path = [unbase64(one, what) for one in lines[3:]]
    need(all(len(one) == 32 for one in path), what + " has a hash of another length")
    checkpoint = Checkpoint(note.encode(), what)
    check_path(seq, checkpoint.size, sha256(b"\0", line), path, checkpoint.root, what)
    return seq, line, note


# --- 9 Completeness proofs --------------------------------------------------------------------------------------------

def exactly(value, names, what):
    need(isinstance(value, dict) and set(value) == set(names), what + " has other members than it should")
    return value


def items(value, what):
    need(isinstance(value, list), what + " is not a list")
    return value


def path_of(value, what):
    need(len(items(value, what)) <= 65, what + " has too many hashes")
    return [hash_of(one, what) for one in value]


def number(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def list_bytes(seqs):
    """The stored form of a posting list."""
    first, last, size = seqs.ranges[0][0], seqs.ranges[-1][1], seqs.count()
    gaps = bytearray(b"\0")
    before = first
    for at, (low, high) in enumerate(seqs.ranges):
        if at:
            gaps += number(low - before)
        gaps += b"\1" * (high - low)
        before = high
    best = bytes(gaps)
    length = (last - first) // 8 + 2
    if length < len(best):
        bits = bytearray(length)
        bits[0] = 1
        for seq in seqs:
            bits[1 + (seq - first) // 8] |= 1 << (seq - first) % 8
        best = bytes(bits)
    runs = bytearray(b"\2")
    for at, (low, high) in enumerate(seqs.ranges):
        if at:
            runs += number(low - seqs.ranges[at - 1][1] - 1)
        runs += number(high - low + 1)
    return bytes(runs) if len(runs) < len(best) else best


UNSEEN = [(0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F)]
UNSEEN += [(0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)]
UNSEEN += [(0xFFA0, 0xFFA0), (0xFFF0, 0xFFFC), (0x13430, 0x1343F), (0x13441, 0x13442), (0x16FE4, 0x16FE4)]
UNSEEN += [(0x1BCA0, 0x1BCA3), (0x1D159, 0x1D159), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)]


def is_normal(value):
    if value and (ord(value[0]) in SPACES or ord(value[-1]) in SPACES):
        return False
    return not any(low <= ord(c) <= high for c in value for low, high in UNSEEN)


def row_key(facet, term):
    return is_pseudonym(term), 13 if facet == "conversation" else FACETS[facet] * 2, term.encode()


def purge_of(detail, seqs, seq, what):
    """Checks that the detail of a purge's entry is well-formed and that it took this set."""
    exactly(detail, ["actor", "classes", "count", "cut_off", "kept_by_hold", "policy", "seqs"], what)
    need(is_text(detail["actor"]) and 1 <= len(detail["actor"].encode()) <= 65536, what + " names nobody")
    classes = detail["classes"]
    need(isinstance(classes, dict) and all(is_int(n) for n in classes.values()), what + " has no proper classes")
    need(all(is_int(detail[name]) for name in ("count", "kept_by_hold", "policy")), what + " has no proper numbers")
    need(sum(classes.values()) == detail["count"], what + " does not add up")
    need(is_time(detail["cut_off"]), what + " has no time")
    digest = hash_of(detail["seqs"], what)
    need(seqs.count() == detail["count"] and seqs.digest() == digest, what + " did not take the set beside it")
    need(not seqs.ranges or seqs.ranges[-1][1] < seq, what + " took entries after itself")


class Row:
    def __init__(self, row, what):
        known = isinstance(row, dict) and "inner" not in row
        exactly(row, ["facet", "path", "position", "salt", "seqs", "term"] if known else ["inner", "path", "position", "seqs"], what)
        need(is_int(row["position"]), what + " has no position")
        self.position, self.path, self.seqs = row["position"], path_of(row["path"], what), set_of(row["seqs"], what)
        self.key = self.facet = self.term = None
        if known:
            self.facet, self.term = row["facet"], row["term"]
            need(is_text(self.facet) and self.facet in FACETS and is_text(self.term) and is_hex(row["salt"], 32), what + " is no row")
            term = self.term.encode()
            salt = bytes.fromhex(row["salt"])
            self.inner = sha256(salt, bytes([FACETS[self.facet]]), len(term).to_bytes(8, "big"), term)
            self.key = row_key(self.facet, self.term)
        else:
            self.inner = hash_of(row["inner"], what)

    def leaf(self):
        listed = list_bytes(self.seqs)
        first = self.seqs.ranges[0][0]
        return sha256(b"\0", self.inner, first.to_bytes(8, "big"), len(listed).to_bytes(8, "big"), listed)


class Complete:
    """A completeness proof, checked: `entries` (seq to line), `purged`, `unknown`, `unproven`."""

    def __init__(self, data, key):
        what = "the completeness proof"
        need(len(data) <= MAX_PROOF, what + " is too large")
        text = text_of(data, what)
        need(text.endswith("\n"), what + " does not end in a newline")
        proof = parse(text[:-1], what)
        names = ["batches", "checkpoint", "entries", "facet", "kind", "purges", "terms", "value"]
        exactly(proof, names, what)
        need(proof["kind"] == "complete" and is_text(proof["value"]) and is_text(proof["checkpoint"]), what + " is no such proof")
        need(is_text(proof["facet"]) and proof["facet"] in FACETS, what + " is of no facet")
        self.facet, self.value, self.note = proof["facet"], proof["value"], proof["checkpoint"]
        self.checkpoint = Checkpoint(self.note.encode("utf-8"), what)
        self.checkpoint.check(key)
        self.read_entries(items(proof["entries"], what))
        self.read_batches(items(proof["batches"], what))
        size = self.checkpoint.size
        need(len([seq for seq in self.shown if seq >= self.covered]) == size - self.covered, "an entry in no index batch is not shown")
        self.needed.update(seq for seq in self.shown if seq >= self.covered)
        self.read_purges(items(proof["purges"], what))
        self.conclude(items(proof["terms"], what))

    def read_entries(self, entries):
        self.shown, self.lines, last = {}, {}, -1
        for one in entries:
            exactly(one, ["line", "path"], "a shown entry")
            need(is_text(one["line"]), "a shown entry has no line")
            entry = entry_of(one["line"], "a shown entry")
            seq, line = entry["seq"], one["line"].encode()
            leaf, path = sha256(b"\0", line), path_of(one["path"], "a shown entry")
            check_path(seq, self.checkpoint.size, leaf, path, self.checkpoint.root, "entry %d" % seq)
            need(seq > last, "the shown entries are not in order")
            self.shown[seq], self.lines[seq], last = entry, line, seq

    def read_batches(self, batches):
        self.covered, self.batches, self.needed, listed = 0, [], set(), 0
        for batch in batches:
            exactly(batch, ["entry", "rows"], "an index batch")
            at = batch["entry"]
            what = "the index batch of entry %s" % at
            need(is_int(at) and self.shown.get(at, {}).get("kind") == "index_batch", what + " is not shown")
            detail = self.shown[at]["detail"]
            need(isinstance(detail, dict) and all(is_int(detail.get(n)) for n in ("first", "end", "rows")), what + " is malformed")
            first, end, rows, root = detail["first"], detail["end"], detail["rows"], hash_of(detail.get("rows_root"), what)
            need(first == self.covered, what + " does not begin where the one before it ends")
            need(first < end <= at and end - first <= 65536, what + " covers what it cannot cover")
            kept, key = [], None
            for row in items(batch["rows"], what):
                row = Row(row, what)
                listed += row.seqs.count()
                need(listed <= MAX_LISTED, "the rows list too many entries")
                need(row.seqs.ranges, what + " has an empty row")
                need(row.seqs.ranges[0][0] >= first and row.seqs.ranges[-1][1] < end, what + " has a row that is not its own")
                check_path(row.position, rows, row.leaf(), row.path, root, what)
                need(not kept or kept[-1].position < row.position, what + " has rows out of order")
                if row.key:
                    need(key is None or key < row.key, what + " has terms out of order")
                    key = row.key
                kept.append(row)
            self.covered = end
            self.needed.add(at)
            self.batches.append((rows, kept))
        need(self.covered <= self.checkpoint.size, "the index batches end beyond the log")

    def read_purges(self, purges):
        self.gone, self.purges = [], set()
        for one in purges:
            exactly(one, ["entry", "seqs"], "a purge")
            seq = one["entry"]
            what = "the purge of entry %s" % seq
            seqs = set_of(one["seqs"], what)
            need(is_int(seq) and self.shown.get(seq, {}).get("kind") == "purge", what + " is not shown")
            purge_of(self.shown[seq]["detail"], seqs, seq, what)
            self.gone.append(seqs)
            self.purges.add(seq)
            self.needed.add(seq)

    def is_purged(self, seq):
        return any(seq in seqs for seqs in self.gone)

    def find(self, facet, term):
        place, found, unknown = row_key(facet, term), set(), []
        for rows, shown in self.batches:
            here = [row for row in shown if row.key == place]
            if here:
                found.update(here[0].seqs)
                continue
            before = [row.position for row in shown if row.key and row.key < place]
            after = [row.position for row in shown if row.key and row.key > place]
            first, end = before[-1] + 1 if before else 0, after[0] if after else rows
            between = [row for row in shown if first <= row.position < end]
            need(len(between) == end - first, "whether a part of the index has %s %r is not shown" % (facet, term[:40]))
            for row in between:
                need(all(self.is_purged(seq) for seq in row.seqs), "a row without a term lists an entry that was not purged")
                unknown.append(row.seqs)
        found.update(seq for seq, one in self.shown.items() if seq >= self.covered and term in terms_of(one, facet))
        return found, unknown

    def conclude(self, terms):
        need(is_normal(self.value), "the value is not in its normal form")
        if self.facet == "trace":
            need(not (len(self.value) in (16, 32) and re.fullmatch("[0-9a-fA-F]+", self.value) and self.value.lower() != self.value),
                 "the value is not in its normal form")
        need(all(is_text(term) for term in terms), "the terms are not texts")
        need(all(a.encode() < b.encode() for a, b in zip(terms, terms[1:])), "the terms are not in order")
        ids = set()
        if self.facet not in ("outcome", "trigger", "emergency", "kind", "class") and not is_pseudonym(self.value):
            about = {0} | self.find("kind", "key")[0]
            for seq in about:
                need(seq in self.shown, "entry %d, which is about keys, is not shown" % seq)
                ids.add(pseudonym_key(self.shown[seq]))
            ids.discard(None)
            self.needed |= about
        need(self.value in terms, "the terms lack the value")
        others = [term for term in terms if term != self.value]
        fit = all(is_pseudonym(term) for term in others) and sorted(term[3:11] for term in others) == sorted(ids)
        need(fit, "the terms are not the value and one pseudonym for each of the log's keys")
        self.entries, purged, unknown = {}, set(), []
        for term in terms:
            found, lost = self.find(self.facet, term)
            unknown += lost
            for seq in found:
                if seq in self.shown:
                    need(term in terms_of(self.shown[seq], self.facet), "entry %d is listed and does not have the value" % seq)
                    self.entries[seq] = self.lines[seq]
                else:
                    need(self.is_purged(seq), "entry %d has the value and is not shown" % seq)
                    purged.add(seq)
            for seq, one in self.shown.items():
                need(seq in found or term not in terms_of(one, self.facet), "entry %d has the value and is not listed" % seq)
        needed = self.needed | set(self.entries)
        need(all(seq in needed for seq in self.shown), "an entry is shown that has nothing to do with it")
        self.purged, self.unknown = union([Set([(seq, seq)]) for seq in purged]), union(unknown)
        named = any(row.facet == self.facet and is_pseudonym(row.term) for _, rows in self.batches for row in rows if row.term is not None)
        late = [one for seq, one in self.shown.items() if seq >= self.covered]
        named = named or any(is_pseudonym(term) for one in late for term in terms_of(one, self.facet))
        self.unproven = bool(others) and named


def pseudonym_key(entry):
    detail = entry.get("detail")
    if not isinstance(detail, dict):
        return None
    name = None
    if entry["kind"] == "genesis":
        name = detail.get("pseudonym_key")
    elif entry["kind"] == "key" and detail.get("event") == "pseudonym_key_rotated":
        name = detail.get("key_id")
    return name if isinstance(name, str) else None


# --- 10 A package -----------------------------------------------------------------------------------------------------

def log_key(data, pinned):
    text = text_of(data, "public-key")
    need(text.endswith("\n"), "public-key does not end in a newline")
    key = Key(text[:-1])
    need(pinned is None or pinned == key.text, "the key in the folder is not the one that you gave")
    return key


def check_package(files, pinned=None, patient=None, succession=None):
    """The verdict about a package: `files` gives the contents by name."""
    for name in ("package.json", "entries.jsonl", "proofs/complete.json", "checkpoint", "public-key"):
        need(name in files, name + " is missing")
    key = log_key(files["public-key"], pinned)
    note = text_of(files["checkpoint"], "checkpoint")
    checkpoint = Checkpoint(files["checkpoint"], "checkpoint")
    checkpoint.check(key)
    epoch, closed = epoch_of(checkpoint, succession)
    need(checkpoint.size > 0, "the log is empty")
    claim = text_of(files["package.json"], "package.json")
    need(claim.endswith("\n"), "package.json does not end in a newline")
    claim = exactly(parse(claim[:-1], "package.json"), ["format", "patient", "since", "until"], "package.json")
    need(claim["format"] == "attestlog/package@v1" and is_text(claim["patient"]), "package.json is of another format")
    since, until = (claim[name] if claim[name] is None else nanoseconds(claim[name]) for name in ("since", "until"))
    need((since is None) == (claim["since"] is None) and (until is None) == (claim["until"] is None), "package.json has no proper times")
    need(since is None or until is None or since < until, "the period is empty")
    need(patient is None or patient == claim["patient"], "the package is about somebody else than you asked for")
    proof = Complete(files["proofs/complete.json"], key)
    need((proof.facet, proof.value) == ("patient", claim["patient"]), "the proof is about something else than the package")
    need(proof.note == note, "the proof is of another checkpoint")

    def within(seq):
        at = nanoseconds(proof.shown[seq]["recorded_at"])
        return (since is None or at >= since) and (until is None or at < until)

    seqs = [seq for seq in sorted(proof.entries) if within(seq)]
    need(files["entries.jsonl"] == b"".join(proof.entries[seq] + b"\n" for seq in seqs), "entries.jsonl is not what was proven")
    names = {"proofs/complete.json"}
    for seq in seqs:
        name = "proofs/entry-%d.proof" % seq
        need(name in files, name + " is missing")
        need(inclusion(files[name], name) == (seq, proof.entries[seq], note), name + " is about something else")
        names.add(name)
    need(all(name in names for name in files if name.startswith("proofs/")), "there is a proof too many")
    return {
        "entries": [proof.shown[seq] for seq in seqs], "epoch": epoch, "kind": "package", "origin": key.name, "patient": claim["patient"],
        "pinned": pinned is not None, "purged": proof.purged.text(), "root": checkpoint.root.hex(),
        "says": said_of_package(proof, claim, seqs, epoch, closed), "seqs": seqs, "since": claim["since"], "size": checkpoint.size,
        "unknown": proof.unknown.text(), "until": claim["until"],
        "verdict": "closed" if closed else "unproven" if proof.unproven else "proved",
    }


# --- 11 An evidence folder --------------------------------------------------------------------------------------------

def check_evidence(files, rows, purge_rows, pinned=None, succession=None):
    """The verdict about an evidence folder: `rows` and `purge_rows` give the lines of two files, each with its newline."""
    for name in ("checkpoint", "public-key"):
        need(name in files, name + " is missing")
    key = log_key(files["public-key"], pinned)
    checkpoint = Checkpoint(files["checkpoint"], "checkpoint")
    checkpoint.check(key)
    epoch, closed = epoch_of(checkpoint, succession)
    size, stack, before, gone, purges, first = 0, [], ZERO, [], {}, None
    for row in rows:
        what = "row %d of entries.jsonl" % size
        need(row.endswith(b"\n"), what + " does not end in a newline")
        text = text_of(row[:-1], what)
        count, node = 1, None
        if text.startswith('{"purged":'):
            hole = exactly(parse(text, what), ["purged"], what)["purged"]
            exactly(hole, ["count", "first", "hash"], what)
            count, node = hole["count"], hash_of(hole["hash"], what)
            need(is_int(count) and count > 0 and count & count - 1 == 0, what + " does not stand for a subtree")
            need(is_int(hole["first"]) and hole["first"] == size and size % count == 0, what + " is at another place")
            gone.append((size, size + count - 1))
            before = None
        else:
            entry = entry_of(text, what)
            need(entry["seq"] == size, what + " is another entry")
            need(before is None or entry["prev"] == before.hex(), what + " does not follow the one before it")
            before = node = sha256(b"\0", row[:-1])
            if entry["kind"] == "purge":
                purges[size] = entry
            if size == 0:
                first = entry
        size += count
        need(size <= MAX_INT, "entries.jsonl is too long")
        while stack and stack[-1][0] == count:
            node, count = sha256(b"\1", stack.pop()[1], node), count * 2
        stack.append((count, node))
    need(size == checkpoint.size, "entries.jsonl has %d entries, the checkpoint says %d" % (size, checkpoint.size))
    root = stack.pop()[1] if stack else sha256()
    while stack:
        root = sha256(b"\1", stack.pop()[1], root)
    need(root == checkpoint.root, "entries.jsonl does not have the root of the checkpoint")
    taken, last, strange = [], -1, []
    for row in purge_rows:
        what = "a row of purges.jsonl"
        need(row.endswith(b"\n"), what + " does not end in a newline")
        row = exactly(parse(text_of(row[:-1], what), what), ["purge", "seq", "seqs"], what)
        seq = row["seq"]
        need(is_int(seq) and seq > last and seq in purges, what + " names no purge")
        purge, seqs = purges.pop(seq), set_of_text(row["seqs"], what)
        detail = purge["detail"]
        need("".join(canonical(detail, [])) == "".join(canonical(row["purge"], [])), what + " is not what the purge's entry says")
        purge_of(detail, seqs, seq, what)
        strange += odd(purge, first)
        taken.append(seqs)
        last = seq
    silent = all(isinstance(one, dict) and one.get("count") == 0 and is_int(one["count"]) for one in (purge["detail"] for purge in purges.values()))
    need(silent, "purges.jsonl lacks a purge")
    gone = union([Set(gone)])
    need(union(taken).ranges == gone.ranges, "what is missing is not what was purged")
    return {
        "epoch": epoch, "kind": "evidence", "origin": key.name, "pinned": pinned is not None, "purged": gone.text(), "root": root.hex(),
        "says": said_of_evidence(size, gone, strange, epoch, closed), "size": size, "verdict": "closed" if closed else "proved",
    }


# --- 12 What is said --------------------------------------------------------------------------------------------------

MOST = 8


def some(seqs):
    text = seqs.text()
    return "%d (%s)" % (seqs.count(), text[:400] + "\u2026" if len(text) > 400 else text) if seqs.ranges else "none"


def at_first(epoch, closed):
    """What is said first where the signing epoch has ended."""
    return ["NOT PROVED, only the signatures hold: epoch %d, whose key signed this, has ended. Whoever held that key and the log's may "
            "have made all of it since. That the log went on from here takes a proof (attestlog check --extended-by)." % epoch] if closed else []


def at_last(epoch):
    """What is said last: whose key signed, and what no folder shows."""
    return [
        "Not shown: that the key of an epoch signed, too. That takes the log's succession, from elsewhere." if epoch is None
        else "The key of epoch %d signed, too." % epoch,
        "Not shown: that every call was recorded; that what was recorded of a call is true; what came after this checkpoint; that the "
        "log was not made anew by whoever holds its keys.",
    ]


def newest(proof):
    return max((one["recorded_at"] for one in proof.shown.values()), key=nanoseconds)


def odd(purge, first):
    """What does not fit the log's clock in the entry of a purge: one sentence or none."""
    detail, at = purge["detail"], purge["recorded_at"]
    says = "The purge of entry %d says that it took what had expired by %s, which is " % (purge["seq"], detail["cut_off"])
    if detail["count"] == 0:
        return []
    if nanoseconds(detail["cut_off"]) > nanoseconds(at):
        return [says + "later than it was recorded: %s." % at]
    if first and nanoseconds(detail["cut_off"]) < nanoseconds(first["recorded_at"]):
        return [says + "before the log began: %s." % first["recorded_at"]]
    return []


def said_of_package(proof, claim, seqs, epoch, closed):
    said, patient, size = at_first(epoch, closed), "".join(canonical(claim["patient"], [])), proof.checkpoint.size
    within = "and were recorded from %s to %s by its own clock: %s." % (
        claim["since"] or "the beginning", claim["until"] or "the end", some(union([Set([(seq, seq)]) for seq in seqs])))
    if proof.unproven:
        said += [
            "NOT PROVED of the patient %s: names in this log are hidden. That the pseudonyms which were looked for are this patient's is "
            "the word of whoever holds the log's keys." % patient,
            "By the log's own index, these are all of its first %d entries that have one of those pseudonyms, or that name in clear, %s"
            % (size, within),
        ]
    elif closed:
        said += ["By the log's own index, these are all of its first %d entries that name the patient %s %s" % (size, patient, within)]
    else:
        said += ["Proved of the patient %s: by the log's own index, these are all of its first %d entries that name the patient %s"
                % (patient, size, within)]
    outside = len(proof.entries) - len(seqs)
    if outside:
        said.append("More of them were recorded outside that period: %d." % outside)
    if proof.purged.ranges:
        said.append("More of them, recorded at whatever time, were purged, as the log says: %s. Whether it was time is not checked."
                    % some(proof.purged))
    if proof.unknown.ranges:
        said.append("Purged too, and nobody can tell any more whom they named: %s." % some(proof.unknown))
    said += [one for seq in sorted(proof.purges) for one in odd(proof.shown[seq], proof.shown.get(0))][:MOST]
    characters = list(dict.fromkeys("U+%04X" % ord(c) for c in claim["patient"] if ord(c) > 127))[:MOST]
    if characters:
        said.append("The patient's name has characters that may look like others: %s. Nothing is said of a name that only looks the same."
                    % ", ".join(characters))
    return said + [
        "The newest entry that the package shows was recorded at %s." % newest(proof),
        "Not shown: that this index was right when the log wrote it. Who has the whole log can compare (attestlog verify).",
    ] + at_last(epoch)


def said_of_evidence(size, gone, strange, epoch, closed):
    said = at_first(epoch, closed) + [
        "%s the log's first %d entries, these are here, each in its place and as it was when the checkpoint was signed: %d."
        % ("Of" if closed else "Proved: of", size, size - gone.count()),
    ]
    if gone.ranges:
        said.append("The others were purged, as the log says: %s. Whether it was time is not checked." % some(gone))
    return said + strange[:MOST] + [
        "Not shown: that the log's index, on which proofs about one patient rest, agrees with these entries: its rows are not in this "
        "folder.",
    ] + at_last(epoch)


# --- Reading and telling ----------------------------------------------------------------------------------------------

def verdict(check, *args, **named):
    try:
        return check(*args, **named)
    except Refused as e:
        return {"error": str(e), "verdict": "failed"}


def opened(path):
    """The file at this place, or None. No link is followed and no pipe is waited for: section 10 says what they count as."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            return io.BytesIO()
        flags = (getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
        return os.fdopen(os.open(path, os.O_RDONLY | sum(flags)), "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read(folder, name):
    file = opened(os.path.join(folder, name))
    if file is None:
        return None
    with file:
        data = file.read(MAX_PROOF + 1)
    need(len(data) <= MAX_PROOF, name + " is too large")
    return data


def rows_of(file, name):
    for row in iter(lambda: file.readline(MAX_PROOF + 1), b""):
        need(len(row) <= MAX_PROOF, "a row of %s is too large" % name)
        yield row


def proofs_of(folder):
    """The names of the files in `proofs`; what is in folders in it counts as little as the folders."""
    proofs, names = os.path.join(folder, "proofs"), []
    if not os.path.isdir(proofs) or os.path.islink(proofs):
        return names
    with os.scandir(proofs) as found:
        for one in found:
            if not one.is_symlink() and not one.is_dir(follow_symlinks=False):
                names.append("proofs/" + one.name)
                need(len(names) <= MAX_FILES, "there are too many files in proofs")
    return names


def folder_verdict(folder, pinned, patient, succession):
    claim = read(folder, "package.json")
    files, together = {}, 0
    for name in ["checkpoint", "public-key"] + ([] if claim is None else ["package.json", "entries.jsonl"] + proofs_of(folder)):
        data = read(folder, name)
        if data is not None:
            files[name], together = data, together + len(data)
            need(together <= MAX_TOGETHER, "the files of the package are too large together")
    if claim is not None:
        return check_package(files, pinned, patient, succession)
    need(patient is None, "an evidence folder is about everybody; --patient is for packages")
    rows, purges = (opened(os.path.join(folder, name)) for name in ("entries.jsonl", "purges.jsonl"))
    need(rows, "entries.jsonl is missing")
    need(purges, "purges.jsonl is missing")
    with rows, purges:
        return check_evidence(files, rows_of(rows, "entries.jsonl"), rows_of(purges, "purges.jsonl"), pinned, succession)


def check_folder(folder, pinned, patient, succession):
    return verdict(folder_verdict, folder, pinned, patient, succession)


def clean(text):
    """Text from the log, so that no character in it acts on the terminal."""
    return "".join(c if c.isprintable() else "\\u{%x}" % ord(c) for c in text)


def tell(found, say):
    if found["verdict"] == "failed":
        say("REFUSED: " + clean(found["error"]))
        say("Nothing in this folder is proved.")
        return
    verdicts = {
        "closed": "NOT PROVED, only the signatures hold", "proved": "PROVED" if found["pinned"] else "CONSISTENT, BUT NOT PINNED",
        "unproven": "NOT PROVED OF ANYBODY, only of pseudonyms",
    }
    say(verdicts[found["verdict"]])
    if not found["pinned"]:
        say("THE KEY IS NOT PINNED: you gave none from elsewhere (--public-key). Whoever made this folder could have made the key.")
    say("  log   " + clean(found["origin"]))
    say("  root  " + found["root"])
    for sentence in found["says"]:
        say(clean(sentence))
    for entry in found.get("entries", []):
        who = "%s, %s, %s" % (entry["user_id"], entry["tool_name"], entry.get("purpose", "purpose not stated"))
        ended = entry.get("outcome", "not ended")
        say("  %d  recorded %s, stated %s: %s: %s" % (entry["seq"], entry["recorded_at"], entry["timestamp"], clean(who), ended))
    if found["kind"] == "package":
        say("The report in the folder is a rendering. Compare it with this list.")


def given(name, folder, most):
    """A file that the reader gave, which is none of the folder."""
    path, inside = os.path.realpath(name), os.path.realpath(folder)
    if os.path.commonprefix([path + os.sep, inside + os.sep]) == inside + os.sep:
        raise ValueError("%s lies in the folder and so shows nothing: give one that you have from elsewhere" % name)
    with open(path, "rb") as file:
        data = file.read(most + 1)
    need(len(data) <= most, name + " is too large")
    return data


def given_key(text, folder):
    """The key that the reader gave: what has the form of a key is one, whatever files there are."""
    text = text.strip()
    if re.fullmatch(r"[^+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}", text):
        return text
    return given(text, folder, MAX_KEY).decode("utf-8", "replace").strip()


def main():
    parser = argparse.ArgumentParser(description="Checks a package or an evidence folder of an attestlog audit log.")
    parser.add_argument("folder", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--public-key", help="the log's public key from elsewhere, or a file with it")
    parser.add_argument("--succession", help="a file with the succession of the log's epoch keys, from elsewhere")
    parser.add_argument("--patient", help="the package must be about this patient")
    parser.add_argument("--page-sha256", help="the SHA-256 of verify.html, from elsewhere")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        import cryptography  # noqa: F401
    except ImportError:
        parser.error("this needs the Python package cryptography: python3 -m pip install cryptography (if it is there: try without -I)")
    try:
        pinned = None if args.public_key is None else given_key(args.public_key, args.folder)
        succession = None if args.succession is None else given(args.succession, args.folder, MAX_SUCCESSION)
        checkers = {name: read(args.folder, name) for name in ("verify.html", "verify.py")}
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in checkers.items() if data is not None}
        if args.page_sha256 is None or args.page_sha256.strip().lower() == sums.get("verify.html"):
            found = check_folder(args.folder, pinned, args.patient, succession)
        else:
            found = {"error": "verify.html is not the page whose SHA-256 you gave", "verdict": "failed"}
    except (OSError, Refused, ValueError) as e:
        parser.error(clean(str(e)))
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        tell(found, print)
        for name, digest in sums.items():
            print("SHA-256 of %s: %s" % (name, digest))
    if args.page_sha256 is None:
        print("THE CHECKERS ARE NOT PINNED: compare these sums, made by another program, with published ones.", file=sys.stderr)
    if found["verdict"] != "proved":
        return 1
    return 0 if found["pinned"] else 3


if __name__ == "__main__":
    sys.exit(main())
