import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** A run of the program, as a user starts it, with what it printed. */
export class Program {
  readonly lines: string[] = [];
  readonly errors: string[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #changed: PromiseWithResolvers<void> = Promise.withResolvers<void>();

  /** `command` is the program where it is not the sources: a package that was installed somewhere. */
  constructor(
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
    command: readonly string[] = [process.execPath, MAIN],
  ) {
    const { PATH = "", HOME = "" } = process.env;
    this.#child = spawn(command[0] ?? process.execPath, [...command.slice(1), ...args], {
      env: { PATH, HOME, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const [stream, into] of [
      [this.#child.stdout, this.lines],
      [this.#child.stderr, this.errors],
    ] as const) {
      createInterface({ input: stream! }).on("line", (line) => {
        into.push(line);
        this.#changed.resolve();
        this.#changed = Promise.withResolvers<void>();
      });
    }
    this.#ended = once(this.#child, "close").then(() => {
      this.#changed.resolve();
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  /** Resolves with the first printed line that fits, now or later; rejects where the program ends or time is up. */
  async line(pattern: RegExp, withinMs = 120_000): Promise<string> {
    const deadline = Date.now() + withinMs;
    for (;;) {
      const found = this.lines.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        throw this.#failed(`ended without ${pattern}`);
      const leftMs = deadline - Date.now();
      if (leftMs <= 0) throw this.#failed(`no line ${pattern} within ${withinMs} ms`);
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([this.#changed.promise, new Promise((done) => (timer = setTimeout(done, leftMs)))]);
      clearTimeout(timer);
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Waits for the end; the exit code, null after a signal. */
  async end(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  #failed(why: string): Error {
    return new Error([why, ...this.lines.slice(-20), ...this.errors.slice(-20)].join("\n"));
  }
}

/** Runs a command to its end. */
export async function runProgram(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  command?: readonly string[],
): Promise<{ code: number | null; lines: readonly string[]; errors: readonly string[] }> {
  const program = new Program(args, environment, command);
  return { code: await program.end(), lines: program.lines, errors: program.errors };
}
