import { spawn } from "node:child_process";
import { accessSync, closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { GridrootError } from "../../service/errors.ts";
import { cutLog, watchLog } from "./bounded-log.ts";
import { ensureFree } from "./ports.ts";
import { areGone, identify, lives, signalAll, treeOf, untilGone } from "./processes.ts";
import type { ProcessIdentity } from "./processes.ts";
import type { Launch, ServerDefinition } from "./server-definition.ts";

/** A real server that a test or the stack runs as a process, on a folder and a port that stay its own. */
export interface NativeServer {
  readonly name: string;
  /** On the loopback interface; the same over restarts. */
  readonly port: number;
  readonly running: boolean;
  /** With the same data on the same port, after `kill()` or `stop()`; waits until the server answers. */
  start(): Promise<void>;
  /** Ends it and all of its processes as a power cut would, and waits until they are gone. */
  kill(): Promise<void>;
  /** Orderly; kills what has not ended in time. Nothing is left of it but its data. */
  stop(): Promise<void>;
  /** Halts its processes where they are: connections stay open and nothing answers. */
  pause(): void;
  /** Lets paused processes go on. */
  resume(): void;
}

/** Whether a server ends with the process that started it, or goes on until it is stopped by its folder. */
export interface Lifetime {
  readonly outlivesStarter?: boolean;
}

/** What `process.json` holds. */
interface RecordedProcess extends ProcessIdentity {
  readonly port: number;
}

const SETPRIV = "/usr/bin/setpriv";

const endWithThisProcess = new Set<ProcessIdentity>();
process.on("exit", () => {
  for (const root of endWithThisProcess) signalAll(treeOf(root), "SIGKILL");
});

/**
 * One process of a server, with its children.
 *
 * All is done by process numbers and not by handles of children, so that a server of the stack, which an earlier
 * command started, is handled as one of this process is. None of it keeps an event loop alive.
 */
export class NativeProcess implements NativeServer {
  readonly name: string;
  readonly port: number;
  readonly #definition: ServerDefinition;
  readonly #outlivesStarter: boolean;
  #process: ProcessIdentity | undefined;
  #logWatch: NodeJS.Timeout | undefined;

  constructor(definition: ServerDefinition, lifetime: Lifetime = {}) {
    this.name = definition.name;
    this.port = definition.port;
    this.#definition = definition;
    this.#outlivesStarter = lifetime.outlivesStarter ?? false;
  }

  get running(): boolean {
    return this.#process !== undefined && lives(this.#process);
  }

  /** Number of its process, while it runs. */
  get pid(): number | undefined {
    return this.running ? this.#process?.pid : undefined;
  }

  /**
   * Takes over the server that an earlier process started on the folder; whether there is one.
   *
   * @throws GridrootError `server-elsewhere`: it listens on another port.
   */
  attach(): boolean {
    if (this.running) return true;
    const recorded = this.#recorded();
    if (recorded !== undefined && recorded.port !== this.port) {
      throw new GridrootError(
        "server-elsewhere",
        `${this.name} runs on port ${recorded.port}, not on ${this.port}: stop it with the settings that started it`,
      );
    }
    this.#process = recorded;
    // Nobody watches the log of a server that outlived its starter.
    cutLog(this.#logFile);
    return recorded !== undefined;
  }

  /** Whether it answers now. */
  async answers(): Promise<boolean> {
    return this.#definition.answer().then(
      () => true,
      () => false,
    );
  }

  async start(): Promise<void> {
    if (this.running) return;
    if (this.#recorded() !== undefined) {
      throw new GridrootError(
        "server-runs-already",
        `${this.name} runs already on ${this.#definition.dataDir}`,
      );
    }
    await mkdir(this.#definition.dataDir, { recursive: true });
    const launch = await this.#definition.prepare();
    await ensureFree(this.port, this.name);
    const identity = this.#spawn(launch);
    this.#process = identity;
    if (!this.#outlivesStarter) endWithThisProcess.add(identity);
    try {
      await this.#record(identity);
      await this.#untilAnswer(identity);
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  async kill(): Promise<void> {
    const identity = this.#process;
    if (identity === undefined) return;
    const tree = treeOf(identity);
    signalAll(tree, "SIGKILL");
    await untilGone(tree, this.#definition.stopWithinMs);
    await this.#forget(identity);
  }

  async stop(): Promise<void> {
    const identity = this.#process;
    if (identity === undefined) return;
    const tree = treeOf(identity);
    this.resume();
    signalAll(tree.slice(0, 1), this.#definition.stopSignal);
    if (!(await areGone(tree, this.#definition.stopWithinMs))) {
      signalAll(tree, "SIGKILL");
      await untilGone(tree, this.#definition.stopWithinMs);
    }
    await this.#forget(identity);
  }

  pause(): void {
    if (this.#process !== undefined) signalAll(treeOf(this.#process), "SIGSTOP");
  }

  resume(): void {
    if (this.#process !== undefined) signalAll(treeOf(this.#process).toReversed(), "SIGCONT");
  }

  #spawn(launch: Launch): ProcessIdentity {
    const { dataDir, user } = this.#definition;
    const dies = !this.#outlivesStarter && isThere(SETPRIV);
    const [command, ...args] = [
      // The kernel ends the server with the process that started it, even where that one is killed.
      ...(dies ? [SETPRIV, "--pdeathsig", "KILL", "--"] : []),
      launch.command,
      ...launch.args,
    ];
    cutLog(this.#logFile);
    const log = openSync(this.#logFile, "a", 0o600);
    try {
      const child = spawn(command ?? launch.command, args, {
        ...user,
        cwd: user === undefined ? dataDir : "/",
        detached: this.#outlivesStarter,
        env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC", HOME: dataDir, ...launch.env },
        stdio: ["ignore", log, log],
      });
      // A failed spawn shows in the missing number below.
      child.once("error", () => {});
      child.unref();
      const identity = child.pid === undefined ? undefined : identify(child.pid);
      if (identity === undefined) {
        throw new GridrootError("server-failed", `${this.name} ended at once: ${launch.command}`);
      }
      clearInterval(this.#logWatch);
      this.#logWatch = watchLog(this.#logFile);
      return identity;
    } finally {
      closeSync(log);
    }
  }

  async #untilAnswer(identity: ProcessIdentity): Promise<void> {
    const endMs = performance.now() + this.#definition.startWithinMs;
    for (;;) {
      const failure: unknown = await this.#definition.answer().then(
        () => undefined,
        (error: unknown) => error ?? new Error("no answer"),
      );
      if (!lives(identity)) throw await this.#failed("ended while it started", failure);
      if (failure === undefined) return;
      if (performance.now() > endMs)
        throw await this.#failed(`gave no answer in ${this.#definition.startWithinMs} ms`, failure);
      await delay(50);
    }
  }

  async #failed(how: string, cause: unknown): Promise<GridrootError> {
    const log = await readFile(this.#logFile, "utf8").catch(() => "");
    const end = log.trim().split("\n").slice(-5).join("; ");
    return new GridrootError("server-failed", `${this.name} ${how}: ${end}`, { cause });
  }

  get #logFile(): string {
    return join(this.#definition.dataDir, "server.log");
  }

  get #recordFile(): string {
    return join(this.#definition.dataDir, "process.json");
  }

  async #record(identity: ProcessIdentity): Promise<void> {
    const unfinished = `${this.#recordFile}.unfinished`;
    const recorded: RecordedProcess = { ...identity, port: this.port };
    await writeFile(unfinished, JSON.stringify(recorded));
    await rename(unfinished, this.#recordFile);
  }

  #recorded(): RecordedProcess | undefined {
    try {
      const recorded = JSON.parse(readFileSync(this.#recordFile, "utf8")) as RecordedProcess;
      return lives(recorded) ? recorded : undefined;
    } catch {
      return undefined;
    }
  }

  async #forget(identity: ProcessIdentity): Promise<void> {
    clearInterval(this.#logWatch);
    endWithThisProcess.delete(identity);
    this.#process = undefined;
    await rm(this.#recordFile, { force: true });
  }
}

function isThere(file: string): boolean {
  try {
    accessSync(file);
    return true;
  } catch {
    return false;
  }
}
