import type { Logger } from "pino";
import { GridrootError } from "./errors.ts";

/** A part of a running program. */
export interface Service {
  readonly name: string;
  /** Resolves once the service does its work. */
  start(): Promise<void>;
  /** Refuses new work, drains, flushes, closes. Safe to call after a failed start. */
  stop(): Promise<void>;
}

/**
 * Starts services in order and stops them in reverse. A failed start stops what had started, then rejects with
 * the cause. `stop` never rejects: it stops everything it can and logs what failed. Once it was called nothing more
 * starts: `start` rejects with `stopping`.
 */
export class Lifecycle {
  readonly #started: { readonly service: Service; readonly starting: Promise<void> }[] = [];
  readonly #log: Logger;
  #stopping: Promise<void> | undefined;

  constructor(dependencies: { log: Logger }) {
    this.#log = dependencies.log;
  }

  async start(service: Service): Promise<void> {
    if (this.#stopping !== undefined) {
      throw new GridrootError("stopping", `${service.name} is not started: the program is stopping`);
    }
    const starting = service.start();
    this.#started.push({ service, starting });
    try {
      await starting;
    } catch (cause) {
      await this.stop();
      throw cause;
    }
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    for (const { service, starting } of this.#started.toReversed()) {
      // What is half started could go on starting behind the stop's back.
      await starting.catch(() => {});
      try {
        await service.stop();
        this.#log.debug({ service: service.name }, "service stopped");
      } catch (error) {
        this.#log.error({ err: error, service: service.name }, "service did not stop in order");
      }
    }
  }
}
