// Runs steps of Python in MicroPython's WebAssembly build and tells the heap that is in use after each.
//
//   node run.mjs MICROPYTHON.MJS < plan.json       plan: {"files": {path: base64}, "steps": [code, ...]}
//
// Prints {"heap": [bytes after each step], "names": [bytes of it in the table of names], "out": what the steps
// printed}. Names are the strings that MicroPython interns; their table grows in leaps of up to 2 KB. This build
// collects garbage only when no Python is running: hence a call of its own for each step, collection and reading.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { loadMicroPython } = await import(pathToFileURL(process.argv[2]));
const plan = JSON.parse(readFileSync(0, "utf8"));
let out = "";
const heap = [];
const names = [];
// pystack: where calls have their frames, as C's stack on a board: outside of the heap that is measured.
const mp = await loadMicroPython({ heapsize: 512 * 1024, pystack: 32 * 1024, stdout: (line) => (out += line + "\n") });
for (const [path, data] of Object.entries(plan.files)) {
  mp.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
  mp.FS.writeFile(path, Buffer.from(data, "base64"));
}
try {
  for (const code of plan.steps) {
    mp.runPython(code);
    for (let i = 0; i < 2; i++) mp.runPython("gc.collect()"); // twice: the first may have freed what held on to more
    mp.runPython("heap = gc.mem_alloc()");
    heap.push(mp.globals.get("heap"));
    const printed = out;
    out = "";
    mp.runPython("micropython.qstr_info()");
    const [, text, total] = out.match(/n_str_data_bytes=(\d+), n_total_bytes=(\d+)/);
    names.push(total - text);
    out = printed;
  }
} catch (error) {
  console.error(out + error.message);
  process.exit(1);
}
console.log(JSON.stringify({ heap, names, out }));
process.exit(0); // whatever timers a program's asyncio has set
