import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { GridrootError } from "../../service/errors.ts";

/** As their command lines begin; a server may have put its address behind its name. */
const SERVER_PROGRAMS = ["java", "influxd", "redis-server", "postgres", "pgbouncer"];

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
  const all = allPids()
    .map(statOf)
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

/** Waits until none of them lives; whether that was within the time. */
export async function areGone(processes: readonly ProcessIdentity[], withinMs: number): Promise<boolean> {
  const endMs = performance.now() + withinMs;
  while (processes.some(lives)) {
    if (performance.now() > endMs) return false;
    await delay(10);
  }
  return true;
}

/** @throws GridrootError `server-stays`: one still lives after the time. */
export async function untilGone(processes: readonly ProcessIdentity[], withinMs: number): Promise<void> {
  if (await areGone(processes, withinMs)) return;
  const left = processes.filter(lives).map(({ pid }) => pid);
  throw new GridrootError("server-stays", `processes ${left.join(", ")} do not end`);
}

/** Numbers of the live processes of servers that work in, or were told of, a path with one of the beginnings. */
export function serversOn(beginnings: readonly string[]): number[] {
  return allPids().filter((pid) => {
    const command = readOr("", () => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
    const place = readOr("", () => `${readlinkSync(`/proc/${pid}/cwd`)}/`);
    return (
      statOf(pid) !== undefined &&
      SERVER_PROGRAMS.some((name) => basename(command.split("\0")[0] ?? "").startsWith(name)) &&
      beginnings.some((beginning) => place.startsWith(beginning) || command.includes(beginning))
    );
  });
}

function allPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function readOr<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    // It ended meanwhile, or is another user's.
    return otherwise;
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
  if (startTicks === undefined || state === "X") return undefined;
  // Files and ports are held until the last thread ends; the first one counts as a zombie before that.
  if (state === "Z" && threadsOf(pid) <= 1) return undefined;
  return { pid, startTicks, parentPid: Number(parentPid) };
}

function threadsOf(pid: number): number {
  return readOr([], () => readdirSync(`/proc/${pid}/task`)).length;
}
