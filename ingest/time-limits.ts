import { GridrootError } from "../service/errors.ts";

/** Resolves after `ms`, or as soon as `signal` aborts. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
    if (signal?.aborted === true) done();
  });
}

/** Settles as `work` does, or rejects with `code` (retryable) after `ms`; what `work` does later is of no interest. */
export async function within<T>(ms: number, code: string, work: Promise<T>): Promise<T> {
  const settled = new AbortController();
  const late = pause(ms, settled.signal).then(() => {
    throw new GridrootError(code, `no answer within ${ms} ms`, { retryable: true });
  });
  // Where the work was first this ends the pause, and nobody hears what becomes of it.
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    settled.abort();
  }
}
