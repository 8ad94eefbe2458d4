/**
 * Energy as an exact integer. Every total in Gridroot is a `bigint` of watt-hours; kilowatt-hours exist
 * only where a person reads them.
 */
declare const unit: unique symbol;

/** Watt-hours. May be negative only where a name says so (`deltaWh`). */
export type Wh = bigint & { readonly [unit]: "Wh" };

/** The brand for a plain integer. Throws `RangeError` or `SyntaxError` on what is not an integer. */
export function wh(value: bigint | number | string): Wh {
  return BigInt(value) as Wh;
}

/** No energy. */
export const ZERO_WH: Wh = wh(0n);

/** `a + b`. */
export function addWh(a: Wh, b: Wh): Wh {
  return (a + b) as Wh;
}

/** `a - b`; negative where b is larger. */
export function subWh(a: Wh, b: Wh): Wh {
  return (a - b) as Wh;
}
