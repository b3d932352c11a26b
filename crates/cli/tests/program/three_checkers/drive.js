// Gives the verdict of the page's script about a folder. A line is {"define":FILES}, or {"base":N,"drop":[NAME…],"kind","pinned",
// "set":FILES,"succession"}: the files of the Nth definition, changed. FILES maps names to base64. Runs in Node and in a browser.
const bases = [];
async function drive(line) {
  const asked = JSON.parse(line);
  if (asked.define) {
    bases.push(asked.define);
    return null;
  }
  const decoded = ([name, data]) => [name, Uint8Array.from(atob(data), c => c.charCodeAt(0))];
  const files = new Map(Object.entries({ ...bases[asked.base], ...asked.set }).map(decoded));
  asked.drop.forEach(name => files.delete(name));
  const succession = asked.succession === null ? null : decoded(["", asked.succession])[1];
  let found;
  try {
    if (asked.kind === "package") found = await Attestlog.checkPackage(files, asked.pinned, null, succession);
    else if (files.has("entries.jsonl") && files.has("purges.jsonl")) {
      found = await Attestlog.checkEvidence(files, [files.get("entries.jsonl")], [files.get("purges.jsonl")], asked.pinned, null, succession);
    } else found = { verdict: "failed", error: "a file is missing" };
  } catch (e) {
    found = { verdict: "crashed: " + (e.stack ?? e) };
  }
  const told = Object.fromEntries(["epoch", "verdict", "size", "root", "says", "seqs", "purged", "unknown"].map(name => [name, found[name] ?? null]));
  return JSON.stringify([told, found.error ?? null]);
}
