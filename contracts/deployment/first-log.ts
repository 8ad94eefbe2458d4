import type { Log, Provider } from "ethers/providers";
import { GridrootError } from "../../service/errors.ts";

/** Public endpoints answer for a range of blocks; most of them for this many. */
const RANGE_BLOCKS = 1_000;

/**
 * The contract's first log with these topics since `fromBlock`; `undefined` where there is none. Asks for all blocks at
 * once, and for one range after the other where the endpoint refuses that. Rejects with `logs-refused` where the endpoint
 * refuses and `fromBlock` is 0, because a real chain has more ranges than anybody would wait for.
 */
export async function findFirstLog(
  filter: { readonly address: string; readonly topics: (null | string | string[])[] },
  fromBlock: number,
  provider: Provider,
): Promise<Log | undefined> {
  try {
    return (await provider.getLogs({ ...filter, fromBlock, toBlock: "latest" }))[0];
  } catch (cause) {
    if (fromBlock > 0) return findInRanges(filter, fromBlock, provider);
    const hint = "the endpoint refuses logs of all blocks, and no earlier run noted where to begin";
    throw new GridrootError("logs-refused", `${hint}; use an endpoint with an archive of logs`, { cause });
  }
}

async function findInRanges(
  filter: { readonly address: string; readonly topics: (null | string | string[])[] },
  fromBlock: number,
  provider: Provider,
): Promise<Log | undefined> {
  const latest = await provider.getBlockNumber();
  for (let from = fromBlock; from <= latest; from += RANGE_BLOCKS) {
    const toBlock = Math.min(latest, from + RANGE_BLOCKS - 1);
    const [log] = await provider.getLogs({ ...filter, fromBlock: from, toBlock });
    if (log !== undefined) return log;
  }
  return undefined;
}
