"""Gives the verdict of verify.py about each folder that standard input describes, one a line: see drive.js."""
import base64
import importlib.util
import io
import json
import sys

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

bases = []
for line in sys.stdin:
    asked = json.loads(line)
    if "define" in asked:
        bases.append(asked["define"])
        continue
    files = {name: base64.b64decode(data) for name, data in dict(bases[asked["base"]], **asked["set"]).items()}
    for name in asked["drop"]:
        files.pop(name, None)
    succession = None if asked["succession"] is None else base64.b64decode(asked["succession"])
    try:
        if asked["kind"] == "package":
            found = verify.verdict(verify.check_package, files, asked["pinned"], None, succession)
        elif "entries.jsonl" in files and "purges.jsonl" in files:
            rows, purges = io.BytesIO(files["entries.jsonl"]), io.BytesIO(files["purges.jsonl"])
            found = verify.verdict(verify.check_evidence, files, rows, purges, asked["pinned"], succession)
        else:
            found = {"verdict": "failed", "error": "a file is missing"}
    except Exception as e:  # An error of the checker itself is a verdict of its own, which no other has.
        found = {"verdict": "crashed: %r" % e}
    told = {name: found.get(name) for name in ("epoch", "verdict", "size", "root", "says", "seqs", "purged", "unknown")}
    print(json.dumps([told, found.get("error")]), flush=True)
