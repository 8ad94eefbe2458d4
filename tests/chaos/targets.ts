import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { ChildRole } from "../../service/child-process.ts";
import { GridrootError } from "../../service/errors.ts";
import type { Duration, Fault, FaultKind, TargetSpec } from "./plan.ts";

/** Something that can be struck. */
export interface Target {
  readonly spec: TargetSpec;
  /** Does what the fault says; resolves when nothing more is done to the target. Rejects where it cannot be struck. */
  strike(fault: Fault): Promise<void>;
  /** Whether it does its work. Never rejects. */
  isUp(): Promise<boolean>;
}

/** How a target is struck, by kind of fault; `forMs` is the fault's. */
export type Strikes = Readonly<Partial<Record<FaultKind, (forMs: number) => Promise<void>>>>;

const POLL_MS = 20;
const RUNS_AGAIN_WITHIN_MS = 30_000;

/** Longer than ingest waits for an append, shorter than a session of the log lasts. */
const PAUSE: Duration = { minMs: 300, maxMs: 6000 };
/** A process that starts again loads its code, opens its stores and takes over its partitions within about this. */
const COMING_BACK: Duration = { minMs: 0, maxMs: 2000 };
/** What lasts no longer than it takes to do it. */
export const AT_ONCE: Duration = { minMs: 0, maxMs: 0 };

/** How long the faults of a role last. */
export const ROLE_KINDS = { kill: AT_ONCE, "kill-again": COMING_BACK, pause: PAUSE } as const;
/** How long the faults of a server last: somebody has to notice that it is gone. */
export const SERVER_KINDS = { kill: { minMs: 200, maxMs: 6000 }, pause: PAUSE } as const;

/** A target from its parts. Rejects a kind that it has no strike for with `fault-unknown`. */
export function targetOf(spec: TargetSpec, strikes: Strikes, isUp: () => Promise<boolean>): Target {
  return {
    spec,
    isUp: () => isUp().catch(() => false),
    async strike({ kind, forMs }) {
      const strike = strikes[kind];
      if (strike === undefined) throw new GridrootError("fault-unknown", `${spec.name} knows no ${kind}`);
      await strike(forMs);
    },
  };
}

/** A role in a process of its own; the machine starts it again when it dies. */
export function roleTarget(child: ChildRole, weight: number): Target {
  const kill = async (): Promise<void> => {
    const pid = await runningPid(child);
    process.kill(pid, "SIGKILL");
    await waitFor(`${child.name} is gone`, () => child.pid !== pid);
  };
  const strikes: Strikes = {
    kill,
    "kill-again": async (forMs) => {
      await kill();
      await runningPid(child);
      await delay(forMs);
      await kill();
    },
    pause: async (forMs) => pausing([await runningPid(child)], forMs),
  };
  const spec = { name: child.name, weight, kinds: ROLE_KINDS };
  return targetOf(spec, strikes, () => Promise.resolve(child.isUp));
}

/** Stops the processes with SIGSTOP, the first one first, and lets them go on after `forMs`, whatever happens. */
export async function pausing(pids: readonly number[], forMs: number): Promise<void> {
  for (const pid of pids) signal(pid, "SIGSTOP");
  try {
    await delay(forMs);
  } finally {
    for (const pid of pids) signal(pid, "SIGCONT");
  }
}

/** A process and all that it started, parents before their children. */
export async function processTree(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const children = text.trim() === "" ? [] : text.trim().split(" ").map(Number);
  return [pid, ...(await Promise.all(children.map(processTree))).flat()];
}

async function runningPid(child: ChildRole): Promise<number> {
  await waitFor(`${child.name} runs`, () => child.pid !== undefined);
  return child.pid!;
}

async function waitFor(what: string, condition: () => boolean): Promise<void> {
  const endMs = performance.now() + RUNS_AGAIN_WITHIN_MS;
  while (!condition()) {
    if (performance.now() > endMs) {
      throw new GridrootError("target-lost", `waited ${RUNS_AGAIN_WITHIN_MS} ms in vain until ${what}`);
    }
    await delay(POLL_MS);
  }
}

/** A process of the tree may have ended by itself meanwhile. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
