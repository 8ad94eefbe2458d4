import { readFileSync, readdirSync } from "node:fs";

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in clock ticks since the machine did: the 22nd field of /proc/PID/stat. */
  readonly startTicks: string;
}

interface ProcessStat extends ProcessIdentity {
  readonly parentPid: number;
}

/** The live process of that number; a process that ended and was not reaped yet is none. */
export function identify(pid: number): ProcessIdentity | undefined {
  return statOf(pid);
}

/** Whether the very process still lives. */
export function lives(identity: ProcessIdentity): boolean {
  return statOf(identity.pid)?.startTicks === identity.startTicks;
}

/** The process and all that descend from it, parents before their children; empty where it is gone. */
export function treeOf(root: ProcessIdentity): ProcessIdentity[] {
  if (!lives(root)) return [];
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat !== undefined);
  const tree: ProcessIdentity[] = [root];
  for (const parent of tree) {
    tree.push(...all.filter((stat) => stat.parentPid === parent.pid));
  }
  return tree.map(({ pid, startTicks }) => ({ pid, startTicks }));
}

/** Sends a signal to each process that still lives. */
export function signalAll(processes: readonly ProcessIdentity[], signal: NodeJS.Signals): void {
  for (const identity of processes) {
    if (!lives(identity)) continue;
    try {
      process.kill(identity.pid, signal);
    } catch (error) {
      // It may end between the two looks.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

function statOf(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The second field is the program's name in parentheses, and may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parentPid] = fields;
  const startTicks = fields[19];
  if (startTicks === undefined || state === "Z" || state === "X") return undefined;
  return { pid, startTicks, parentPid: Number(parentPid) };
}
