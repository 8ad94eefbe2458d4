import { type Wh, ZERO_WH, addWh, subWh, wh } from "../metering/units.ts";

/** What an account asks of a batch: what earlier batches held back, and what is new. Neither is negative. */
export interface Claim {
  readonly account: string;
  readonly heldWh: Wh;
  readonly newWh: Wh;
}

/**
 * Shares out at most `capWh`: held amounts first, new ones from what is left; where a class does not fit, pro rata
 * within it by largest remainder, ties by account. The result, by account, does not depend on the order of `claims`
 * and its sum is the smaller of the cap and all that is claimed.
 */
export function allot(claims: readonly Claim[], capWh: Wh): ReadonlyMap<string, Wh> {
  const held = shareOut(
    claims.map(({ account, heldWh }) => ({ account, wantedWh: heldWh })),
    capWh,
  );
  const leftWh = subWh(capWh, total([...held.values()]));
  const fresh = shareOut(
    claims.map(({ account, newWh }) => ({ account, wantedWh: newWh })),
    leftWh,
  );
  return new Map(
    claims.map(({ account }) => [account, addWh(held.get(account)!, fresh.get(account)!)] as const),
  );
}

interface Want {
  readonly account: string;
  readonly wantedWh: Wh;
}

function shareOut(wants: readonly Want[], capWh: Wh): Map<string, Wh> {
  const wantedWh = total(wants.map((want) => want.wantedWh));
  if (wantedWh <= capWh) return new Map(wants.map((want) => [want.account, want.wantedWh]));
  const shares = wants.map((want) => ({
    account: want.account,
    downWh: wh((capWh * want.wantedWh) / wantedWh),
    remainder: (capWh * want.wantedWh) % wantedWh,
  }));
  const leftWh = Number(subWh(capWh, total(shares.map((share) => share.downWh))));
  const order = shares.toSorted((a, b) => compare(b.remainder, a.remainder) || compare(a.account, b.account));
  return new Map(
    order.map((share, rank) => [share.account, rank < leftWh ? addWh(share.downWh, wh(1)) : share.downWh]),
  );
}

function compare<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function total(amounts: readonly Wh[]): Wh {
  return amounts.reduce(addWh, ZERO_WH);
}
