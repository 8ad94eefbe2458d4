import type { Sample } from "./monitor.ts";

/** What is in flight while a pipeline keeps up, in seconds of load. */
const KEPT_UP_S = 1;

/**
 * How fast the recorder worked off what had piled up when a store was away, as a multiple of the offered load: records
 * passed a second, from the first sample after the store was back to the first that shows no backlog. `undefined`
 * where nothing had piled up, or it was never worked off.
 */
export function catchUpRatio(
  samples: readonly Sample[],
  backMs: number,
  publishesPerS: number,
): number | undefined {
  const after = samples.filter(({ atMs }) => atMs >= backMs);
  const [begin] = after;
  const end = after.find(({ unrecorded }) => unrecorded <= KEPT_UP_S * publishesPerS);
  if (begin === undefined || end === undefined || end === begin) return undefined;
  const perS = (end.recorded - begin.recorded) / ((end.atMs - begin.atMs) / 1000);
  return perS / publishesPerS;
}
