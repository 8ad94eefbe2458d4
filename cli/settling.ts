import type { Machine } from "./machine.ts";
import type { Stores } from "./stores.ts";

/** Open boundaries that a partition may hold; a replay keeps one below, for the readings past its newest interval. */
const INTERVALS_AHEAD = 3;
const POLL_MS = 20;
/** States in which a settlement rests. */
const SETTLED = ["final", "settled-externally"];

/**
 * Waits until the interval that ends at `end` fits between the boundaries that are open: a replay is throttled by
 * what is not sealed yet. Regions that sealed nothing yet count from `from`.
 */
export async function waitForRoom(
  stores: Stores,
  run: { from: number; lengthS: number },
  end: number,
): Promise<void> {
  const needed = Math.max(run.from, end - INTERVALS_AHEAD * run.lengthS);
  await waitUntil(async () => (await sealedUntil(stores, run.from)) >= needed);
}

/** How far all regions are sealed, unix seconds. */
export async function sealedUntil(stores: Stores, from: number): Promise<number> {
  const result = await stores.ledger.query<{ sealed: bigint | null }>(
    "select min(coalesce(sealed_until, $1::bigint)) as sealed from ledger.region",
    [from],
  );
  return Number(result.rows[0]?.sealed ?? from);
}

/** Asks again and again until the answer is yes. */
export async function waitUntil(condition: () => Promise<boolean>, everyMs = POLL_MS): Promise<void> {
  while (!(await condition())) await new Promise((done) => setTimeout(done, everyMs));
}

/** Waits until every batch is sealed, mined and, with the confirmation depth mined on top, final. */
export async function settleAll(machine: Machine, day: { from: number; end: number }): Promise<void> {
  const stores = await machine.process.stores();
  const unsettled = async (states: readonly string[]): Promise<number> => {
    const result = await stores.ledger.query<{ n: bigint }>(
      `select count(*) as n from ledger.batch left join ledger.settlement using (region_id, round, interval_end)
        where state is null or state <> all ($1)`,
      [states],
    );
    return Number(result.rows[0]?.n ?? 0n);
  };
  await waitUntil(async () => (await sealedUntil(stores, day.from)) >= day.end);
  await waitUntil(async () => (await unsettled(["mined", ...SETTLED])) === 0);
  await machine.mine(machine.process.settings.confirmations);
  await waitUntil(async () => (await unsettled(SETTLED)) === 0);
}
