// `npm run test:mutations [-- part-of-a-name]`: breaks the program in one small way at a time, in a scratch copy, and
// requires the test that guards the broken promise to fail. A test that cannot fail guards nothing.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Mutation, MUTATIONS } from "./mutations.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const WITHIN_MS = 180_000;
/** How long a file may go on after its test failed: a test that fails may leave open what it would have closed. */
const AFTER_FAILURE_MS = 5000;

function scratchCopy(): string {
  const copy = mkdtempSync(join(tmpdir(), "gridroot-mutations-"));
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  for (const file of files.split("\n").filter((name) => name !== "")) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(join(root, file), join(copy, file));
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  return copy;
}

/** Ends what the runner waits for, not the runner: it stops the PostgreSQL server of its tests afterwards. */
function killChildrenOf(pid: number): void {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  for (const child of children === "" ? [] : children.split(" ")) process.kill(Number(child), "SIGKILL");
}

/** The failed tests' names, and how many tests passed. */
function runTest(
  copy: string,
  mutation: Mutation,
): Promise<{ failed: string[]; passed: number; output: string }> {
  const command =
    mutation.solidity === true
      ? ["npx", "hardhat", "test", "solidity", mutation.test]
      : [
          process.execPath,
          "--test",
          "--test-reporter=tap",
          `--test-global-setup=tests/support/${mutation.test.includes(".distributed.") ? "distributed-setup" : "global-setup"}.ts`,
          `--test-name-pattern=${mutation.name}`,
          mutation.test,
        ];
  return new Promise((resolve) => {
    const child = spawn(command[0]!, command.slice(1), {
      cwd: copy,
      // The copy's distributed tests find the stack of this tree, or bring it up there.
      env: { GRIDROOT_STACK_DIR: join(root, ".gridroot/stack"), ...process.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let failedAt: NodeJS.Timeout | undefined;
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (failedAt === undefined && /^not ok /m.test(output))
        failedAt = setTimeout(() => killChildrenOf(child.pid!), AFTER_FAILURE_MS);
    });
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const timer = setTimeout(() => killChildrenOf(child.pid!), WITHIN_MS);
    child.once("close", () => {
      clearTimeout(timer);
      clearTimeout(failedAt);
      const lines = output.split("\n").map((line) => line.trim());
      const pattern = new RegExp(mutation.name);
      const named = (prefix: string) =>
        lines.filter((line) => line.startsWith(prefix) && pattern.test(line) && !line.includes("# SKIP"));
      if (mutation.solidity === true) {
        const failed = lines.filter(
          (line) => line.includes("Counterexample") || /^\d+\)/.test(line) || line.startsWith("✘"),
        );
        resolve({ failed, passed: lines.filter((line) => line.startsWith("✔")).length, output });
      } else {
        resolve({ failed: named("not ok "), passed: named("ok ").length, output });
      }
    });
  });
}

async function judge(copy: string, mutation: Mutation): Promise<string | undefined> {
  const file = join(copy, mutation.file);
  const original = readFileSync(file, "utf8");
  const occurrences = original.split(mutation.from).length - 1;
  if (occurrences !== 1) return `the text to replace stands ${occurrences} times in ${mutation.file}`;
  writeFileSync(
    file,
    original.replace(mutation.from, () => mutation.to),
  );
  try {
    const { failed, output } = await runTest(copy, mutation);
    if (failed.length > 0) return undefined;
    return `no test failed: ${mutation.test} (${mutation.name})\n${output.slice(-800)}`;
  } finally {
    writeFileSync(file, original);
  }
}

async function soundTests(copy: string, mutations: readonly Mutation[]): Promise<string[]> {
  const faults: string[] = [];
  const seen = new Set<string>();
  for (const mutation of mutations) {
    const key = `${mutation.test} ${mutation.name}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const { failed, passed } = await runTest(copy, mutation);
    if (failed.length > 0 || passed === 0)
      faults.push(`${key}: ${passed} passed, ${failed.length} failed unbroken`);
  }
  return faults;
}

const wanted = process.argv[2] ?? "";
const mutations = MUTATIONS.filter((mutation) => mutation.breaks.includes(wanted));
const copy = scratchCopy();
let caught = 0;
let missed = 0;
try {
  for (const fault of await soundTests(copy, mutations)) {
    console.log(`UNSOUND ${fault}`);
    missed += 1;
  }
  for (const mutation of mutations) {
    const fault = await judge(copy, mutation);
    if (fault === undefined) caught += 1;
    else missed += 1;
    console.log(fault === undefined ? `caught  ${mutation.breaks}` : `MISSED  ${mutation.breaks}: ${fault}`);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${caught} passed, ${missed} failed`);
process.exitCode = missed === 0 && caught > 0 ? 0 : 1;
