import { type ChildProcess, fork } from "node:child_process";
import type { Logger } from "pino";
import { GridrootError } from "./errors.ts";
import type { Service } from "./lifecycle.ts";

/** What a parent asks of a child role. Every question is answered by a `Reply` with its id. */
export type Question =
  | { readonly id: number; readonly ask: "metrics" }
  | { readonly id: number; readonly ask: "clock"; readonly nowMs: number }
  | { readonly id: number; readonly ask: "mine"; readonly blocks: number }
  | { readonly id: number; readonly ask: "stop" };

type QuestionBody = Question extends infer Q ? (Q extends Question ? Omit<Q, "id"> : never) : never;

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** Pause before a role that died is started again, and the longest, between starts that fail. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

/** The id under which a child announces that it is up. */
const READY = 0;

export interface ChildRoleOptions {
  /** For logs and people: `ingest-1`, `authority-mea`. */
  readonly name: string;
  /** The program's main file. */
  readonly mainFile: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readyWithinMs: number;
  readonly stopWithinMs: number;
}

/**
 * A role in a process of its own. Where the process dies unasked it is started again, after a pause that doubles up
 * to 10 s while it keeps dying; what its crash leaves behind is the role's own concern.
 */
export class ChildRole implements Service {
  readonly name: string;
  readonly #options: ChildRoleOptions;
  readonly #log: Logger;
  #child: ChildProcess | undefined;
  #isUp = false;
  #stopping = false;
  #restart: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #nextId = READY + 1;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(cause: Error): void }>();

  constructor(options: ChildRoleOptions, dependencies: { log: Logger }) {
    this.name = options.name;
    this.#options = options;
    this.#log = dependencies.log;
  }

  /** The process id while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether the process has announced that it does its work, and still runs. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Resolves when the role is up; rejects with what the child reports, or `child-silent`, and leaves no process. */
  async start(): Promise<void> {
    await this.#launch();
  }

  async #launch(): Promise<void> {
    const child = fork(this.#options.mainFile, this.#options.args, {
      env: { ...this.#options.environment },
      // Flags of this process (a debugger's port, a test runner's) are not meant for its children.
      execArgv: [],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child = child;
    const ready = this.#expect(READY, this.#options.readyWithinMs);
    child.on("message", (message) => this.#receive(message as Reply));
    child.once("exit", (code, signal) => this.#exited(child, code, signal));
    try {
      await ready;
    } catch (cause) {
      if (this.#child === child) this.#child = undefined;
      child.kill("SIGKILL");
      throw cause;
    }
    this.#isUp = true;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** Asks the child. Rejects where it dies, reports an error, or does not answer within 10 s. */
  async ask(question: QuestionBody): Promise<unknown> {
    const child = this.#child;
    if (child === undefined || !child.connected) throw this.#gone();
    const id = this.#nextId++;
    const answer = this.#expect(id, 10_000);
    child.send({ ...question, id });
    return answer;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise<void>((done) => child.once("exit", () => done()));
    const forced = setTimeout(() => child.kill("SIGKILL"), this.#options.stopWithinMs);
    if (child.connected) child.send({ id: this.#nextId++, ask: "stop" } satisfies Question);
    await exited;
    clearTimeout(forced);
  }

  #expect(id: number, withinMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new GridrootError("child-silent", `${this.name} did not answer within ${withinMs} ms`));
      }, withinMs);
      this.#waiting.set(id, {
        resolve(value) {
          clearTimeout(timer);
          resolve(value);
        },
        reject(cause) {
          clearTimeout(timer);
          reject(cause);
        },
      });
    });
  }

  #receive(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.error === undefined) waiting?.resolve(reply.value);
    else waiting?.reject(new GridrootError("child-failed", `${this.name}: ${reply.error}`));
  }

  #exited(child: ChildProcess, code: number | null, signal: string | null): void {
    // A child that did not come up was let go of by `#launch`, which reports it.
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#isUp = false;
    const cameUp = !this.#waiting.has(READY);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#gone());
    this.#waiting.clear();
    if (!cameUp || this.#stopping) return;
    this.#log.error({ role: this.name, code, signal }, "role died and is started again");
    this.#restartLater();
  }

  #restartLater(): void {
    this.#restart = setTimeout(() => {
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
      this.#launch().catch((error: unknown) => {
        if (this.#stopping) return;
        this.#log.error({ err: error, role: this.name, pauseMs: this.#pauseMs }, "role did not start again");
        this.#restartLater();
      });
    }, this.#pauseMs);
  }

  #gone(): GridrootError {
    return new GridrootError("child-gone", `${this.name} is not running`, { retryable: true });
  }
}

/** How a child role answers its parent. */
export interface ChildAnswers {
  answer(question: Question): Promise<unknown>;
  /** Called for a `stop`, and where the parent is gone. */
  stop(): void;
}

/**
 * Serves the parent of this process; does nothing where there is none. Call it before the role starts, so that a
 * `stop` during start is heard, and `announceReady` once it is up.
 */
export function serveParent(answers: ChildAnswers): void {
  if (process.send === undefined) return;
  process.on("message", (question: Question) => {
    if (question.ask === "stop") return answers.stop();
    answers.answer(question).then(
      (value) => send({ id: question.id, value }),
      (error: unknown) => send({ id: question.id, error: (error as Error).message }),
    );
  });
  process.once("disconnect", () => answers.stop());
}

/** Tells the parent that the role is up, or why it is not. */
export function announceReady(error?: Error): void {
  send(error === undefined ? { id: READY } : { id: READY, error: error.message });
}

/** Lets go of the parent after the last word, so that the process can end. */
export function leaveParent(): void {
  if (process.connected) process.disconnect();
}

function send(reply: Reply): void {
  if (process.connected) process.send?.(reply);
}
