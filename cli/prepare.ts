import { rename, writeFile } from "node:fs/promises";
import { DEAD_LETTER_TOPIC, regionTopic } from "../event-log/topics.ts";
import { ensureRegions } from "../ledger/regions.ts";
import type { Context } from "./context.ts";
import { deployEmbedded, embeddedKeys } from "./deployment.ts";
import { missing, RoleProcess } from "./role-process.ts";
import { unixNowS } from "./times.ts";

/** Regions of the local chain begin so long before they are registered: as long as ingest accepts readings. */
export const BACKFILL_S = 31 * 86_400;

export interface PrepareFlags {
  /** File that the address of a contract on the local chain is written to; deploys one where there is none. */
  readonly localContract?: string;
}

/**
 * Prepares a deployment in which every role has processes of its own: schemas, regions, topics, series, and with
 * `localContract` the contract on a local chain. Idempotent; to be run before the roles of a new version start.
 * Rejects with `topic-partitions` where a topic has another number of partitions than is configured, and with
 * `contract-changed` where the local chain holds other terms.
 */
export async function prepare(context: Context, flags: PrepareFlags): Promise<void> {
  const { grid, settings } = context;
  const process_ = new RoleProcess(context, "prepare");
  try {
    await prepareStores(process_);
    await process_.timeSeries();
    context.print(
      `${grid.regions.length} regions, ${settings.partitionsPerRegion} partitions each, are prepared`,
    );
  } finally {
    await process_.close();
  }
  if (flags.localContract === undefined) return;
  if (settings.chainRpcUrl === "") throw missing("GRIDROOT_CHAIN_RPC_URL");
  const keys = await embeddedKeys(settings, grid);
  const address = await deployEmbedded(settings, grid, keys, unixNowS() - BACKFILL_S);
  // Who reads the file sees a whole address or none.
  await writeFile(`${flags.localContract}.new`, `${address}\n`);
  await rename(`${flags.localContract}.new`, flags.localContract);
  context.print(`contract ${address}`);
}

/** Creates the ledger's schema, the regions and the log's topics, where they are missing. */
export async function prepareStores(process_: RoleProcess): Promise<void> {
  const { regions } = process_.context.grid;
  const [ledger, eventLog] = await Promise.all([process_.ledger(), process_.eventLog()]);
  await ensureRegions(ledger, regions);
  await eventLog.ensureTopics([
    ...regions.map(({ name }) => ({
      topic: regionTopic(name),
      partitions: process_.settings.partitionsPerRegion,
    })),
    { topic: DEAD_LETTER_TOPIC, partitions: 1 },
  ]);
}
