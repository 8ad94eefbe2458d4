/** What every error of Gridroot says: a stable code, its cause, and whether trying again can help. */
export class GridrootError extends Error {
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GridrootError";
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** Asserts what the program itself guarantees; a failure is a bug and stops the role. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new GridrootError("invariant", message);
}
