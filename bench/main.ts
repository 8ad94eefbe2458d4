// `npm run bench -- AREA`: runs the measurement `bench/AREA.ts`; without an area it names them.
import { readdir } from "node:fs/promises";

const areas = (await readdir(new URL("./", import.meta.url)))
  .filter((name) => name.endsWith(".ts") && name !== "main.ts")
  .map((name) => name.slice(0, -3));
const area = process.argv[2] ?? "";
if (areas.includes(area)) {
  await import(new URL(`${area}.ts`, import.meta.url).href);
} else {
  process.stderr.write(`usage: npm run bench -- ${areas.join("|")}\n`);
  process.exitCode = 1;
}
