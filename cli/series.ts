import { regionTopic } from "../event-log/topics.ts";
import { rewind } from "../ledger/consumer-offsets.ts";
import { GridrootError } from "../service/errors.ts";
import { RECORDER } from "../time-series/recorder-balance.ts";
import type { Context } from "./context.ts";
import { withStores } from "./stores.ts";

/**
 * Has the series written anew from all that the log still holds: sends the recorder back in every region, or in one.
 * Points have keys, so what is there already stays as it is. A recorder that runs begins again at its next record;
 * one that is stopped, when it starts.
 */
export async function rebuildSeries(context: Context, flags: { region?: string }): Promise<void> {
  const regions = context.grid.regions.filter(({ name }) => name === (flags.region ?? name));
  if (regions.length === 0)
    throw new GridrootError("argument-invalid", `region ${flags.region} is not in the grid file`);
  await withStores(context, async ({ ledger, eventLog }) => {
    for (const { name } of regions) {
      const partitions = await rewind(ledger, RECORDER, regionTopic(name));
      let records = 0n;
      for (let partition = 0; partition < partitions; partition += 1) {
        const { first, next } = await eventLog.bounds({ topic: regionTopic(name), partition });
        records += next - first;
      }
      context.print(`${name}: ${records} records of ${partitions} partitions are recorded again`);
    }
  });
}
