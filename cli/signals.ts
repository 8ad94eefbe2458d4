/** A stop that can be asked for by signals and by the program itself. */
export interface RequestedStop {
  /** Begins the stop; once. */
  request(): void;
  /** Whether it was asked for. */
  readonly requested: boolean;
  /** Resolves when the stop is done. */
  readonly done: Promise<void>;
}

/**
 * Runs `stop` at the first SIGINT or SIGTERM, or when asked. A second signal, or a stop that takes longer than
 * `withinMs`, ends the process at once: what was acknowledged is durable, so nothing is lost by it.
 *
 * Without `obeySignals` signals are ignored and only `request` counts: Ctrl-C reaches a whole group of processes, and
 * it is their parent that stops them in order.
 */
export function stopOnSignal(
  options: { withinMs: number; obeySignals?: boolean },
  stop: () => Promise<void>,
): RequestedStop {
  let requested = false;
  let finish = () => {};
  const done = new Promise<void>((resolve) => (finish = resolve));

  function request(): void {
    if (requested) return;
    requested = true;
    const forced = setTimeout(() => process.exit(1), options.withinMs);
    stop().then(
      () => {
        clearTimeout(forced);
        for (const signal of SIGNALS) process.removeListener(signal, onSignal);
        // All is drained and closed: a handle that somebody forgot must not keep the process.
        setTimeout(() => process.exit(), LINGER_MS).unref();
        finish();
      },
      () => process.exit(1),
    );
  }

  function onSignal(): void {
    if (options.obeySignals === false) return;
    if (requested) process.exit(130);
    request();
  }

  for (const signal of SIGNALS) process.on(signal, onSignal);
  return {
    request,
    done,
    get requested() {
      return requested;
    },
  };
}

/** How long a process may outlive its orderly stop, to print what it has to say. */
const LINGER_MS = 5000;
const SIGNALS = ["SIGINT", "SIGTERM"] as const;
