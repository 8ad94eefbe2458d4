/**
 * What the local chain answers. Not among them is whatever changes state past the journal (the node's `hardhat_` and
 * `evm_` controls), whatever signs with the funded accounts' keys for anyone who asks, and whatever tells of a block
 * before it is durable or keeps something for its caller (filters and subscriptions).
 */
export const SERVED_METHODS: ReadonlySet<string> = new Set([
  "debug_traceCall",
  "debug_traceTransaction",
  "eth_blockNumber",
  "eth_call",
  "eth_chainId",
  "eth_estimateGas",
  "eth_feeHistory",
  "eth_gasPrice",
  "eth_getBalance",
  "eth_getBlockByHash",
  "eth_getBlockByNumber",
  "eth_getBlockTransactionCountByHash",
  "eth_getBlockTransactionCountByNumber",
  "eth_getCode",
  "eth_getLogs",
  "eth_getProof",
  "eth_getStorageAt",
  "eth_getTransactionByBlockHashAndIndex",
  "eth_getTransactionByBlockNumberAndIndex",
  "eth_getTransactionByHash",
  "eth_getTransactionCount",
  "eth_getTransactionReceipt",
  "eth_maxPriorityFeePerGas",
  "eth_sendRawTransaction",
  "eth_syncing",
  "evm_mine",
  "hardhat_mine",
  "net_listening",
  "net_version",
  "web3_clientVersion",
  "web3_sha3",
]);

/** The most blocks that one call may mine. */
export const MAX_MINED_BLOCKS = 10_000;

/** How many blocks `evm_mine` (always one) or `hardhat_mine` (a hex quantity, default one) asks for. */
export function minedBlocks(method: string, params: readonly unknown[]): number {
  if (method === "evm_mine" || params.length === 0) return 1;
  return Number(params[0]);
}
