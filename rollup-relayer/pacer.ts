/** How often a loop turns. */
export interface PacerOptions {
  /** Pause after a turn that found nothing to do; ended early by `wake`. */
  readonly idleMs: number;
  /** The longest pause after failures; the pause doubles from 100 ms and is shortened at random by up to half. */
  readonly maxBackoffMs: number;
}

export interface PacerDependencies {
  /** One round of work. Resolves with true where the next one should follow at once. */
  turn(): Promise<boolean>;
  /** Hears of every turn that rejected; the turn is repeated after a pause. */
  failed(error: unknown): void;
  /** From [0, 1). */
  random(): number;
}

/** Runs turns one after the other until stopped. */
export class Pacer {
  readonly #options: PacerOptions;
  readonly #dependencies: PacerDependencies;
  #running: Promise<void> | undefined;
  #stopping = false;
  #awake = false;
  #endPause: () => void = () => {};

  constructor(options: PacerOptions, dependencies: PacerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** True from `stop` on: a long turn looks at it between its steps. */
  get stopping(): boolean {
    return this.#stopping;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends an idle pause, or makes the next one empty. Does not shorten the pause after a failure. */
  wake(): void {
    this.#awake = true;
    this.#endPause();
  }

  /** Resolves when the turn in hand has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#endPause();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopping) {
      this.#awake = false;
      try {
        const again = await this.#dependencies.turn();
        failures = 0;
        // Even a busy loop lets timers and sockets have their turn.
        await this.#pause(again ? 0 : this.#options.idleMs, true);
      } catch (error) {
        failures += 1;
        this.#dependencies.failed(error);
        await this.#pause(this.#backoffMs(failures), false);
      }
    }
  }

  #backoffMs(failures: number): number {
    const fullMs = Math.min(this.#options.maxBackoffMs, 100 * 2 ** Math.min(failures - 1, 20));
    return fullMs * (1 - this.#dependencies.random() / 2);
  }

  async #pause(ms: number, mayWake: boolean): Promise<void> {
    if (this.#stopping || (mayWake && this.#awake)) return;
    await new Promise<void>((done) => {
      const timer = setTimeout(done, ms);
      this.#endPause = () => {
        if (!mayWake && !this.#stopping) return;
        clearTimeout(timer);
        done();
      };
    });
    this.#endPause = () => {};
  }
}
