/**
 * Intervals are (start, end], named by their end in unix seconds, UTC, aligned to their length: the register
 * read at `end` closes them.
 */

/** The end of the interval that holds instant `t`: the smallest multiple of `lengthS` that is >= t. */
export function intervalEnd(t: number, lengthS: number): number {
  return Math.ceil(t / lengthS) * lengthS;
}
