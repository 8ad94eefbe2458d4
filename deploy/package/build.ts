// `npm run build` (and `npm pack`, by its prepack script): compiles the program into dist/ and puts the files that it
// reads at run time (migrations, profiles, the grid file, the compiled contract) where the compiled modules look for
// them: at the same place relative to each module.
import { execFileSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const dist = join(root, "dist");

const ASSETS = [
  "ledger/migrations/*.sql",
  "event-log/**/migrations/*.sql",
  "time-series/**/migrations/*.sql",
  "rollup-relayer/**/migrations/*.sql",
  "simulators/profiles/*",
  "contracts/generated/*.json",
  "config/*.json",
];

rmSync(dist, { recursive: true, force: true });
execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
for (const asset of ASSETS.flatMap((pattern) => globSync(pattern, { cwd: root }))) {
  mkdirSync(dirname(join(dist, asset)), { recursive: true });
  cpSync(join(root, asset), join(dist, asset));
}
