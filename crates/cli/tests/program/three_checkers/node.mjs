// The page's script and drive.js in Node, whose WebCrypto is the same interface over another library.
import fs from "node:fs";
import readline from "node:readline";
import vm from "node:vm";

const page = fs.readFileSync(process.argv[2], "utf8");
const script = page.slice(page.indexOf("<script>") + 8, page.indexOf("</script>"));
const [attestlog, drive] = vm.runInThisContext(script + fs.readFileSync(process.argv[3], "utf8") + ";[Attestlog, drive]");
await attestlog.selfTest();
for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const told = await drive(line);
  if (told !== null) process.stdout.write(told + "\n");
}
