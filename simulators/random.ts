/**
 * The one source of chance in the simulators. It keeps no state: a draw is a function of a key and up to two
 * counters, so that any draw can be repeated, in any order, by a process that knows the seed.
 */

/** The fractional part of the golden ratio, as SplitMix spreads its counters. */
const GOLDEN = 0x9e3779b9;

/** A 32-bit finaliser of low bias: every input bit moves every output bit about half of the time. */
function mix(value: number): number {
  let hash = value >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/**
 * The key of a stream of draws, an unsigned 32-bit integer, from the names that tell it from all others, such as
 * seed, service point and purpose. FNV-1a over their UTF-16 code units, with a separator after each name.
 */
export function keyOf(...names: readonly string[]): number {
  let hash = 0x811c9dc5;
  for (const name of names) {
    for (let index = 0; index < name.length; index += 1) {
      hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
    }
    hash = Math.imul(hash ^ 0x10000, 0x01000193);
  }
  return mix(hash);
}

/** The draw of `key` at the counters `a` and `b` (integers, taken modulo 2^32), uniform in [0, 1). */
export function uniform(key: number, a = 0, b = 0): number {
  const first = mix(key + Math.imul(a + 1, GOLDEN));
  return mix(first + Math.imul(b + 1, GOLDEN)) / 0x1_0000_0000;
}

/** A draw of `key` scaled to [low, high). */
export function between(key: number, low: number, high: number, a = 0, b = 0): number {
  return low + (high - low) * uniform(key, a, b);
}

/** A draw of `key` as an integer from `low` to `high`, both included. */
export function integerBetween(key: number, low: number, high: number, a = 0, b = 0): number {
  return Math.floor(between(key, low, high + 1, a, b));
}
