// `npm run test:distributed [-- FILE...]`: the tests that need the real servers. Brings the native stack up where it
// is not; a backend that is missing fails them, nothing is skipped.
import { spawnSync } from "node:child_process";

const files = process.argv.slice(2);
const run = spawnSync(
  process.execPath,
  [
    "--test",
    // One file at a time: the servers share the machine with the tests.
    "--test-concurrency=1",
    "--test-global-setup=tests/support/distributed-setup.ts",
    ...(files.length > 0 ? files : ["**/*.distributed.test.ts"]),
  ],
  { stdio: "inherit" },
);
process.exitCode = run.status ?? 1;
