import { AsyncLocalStorage } from "node:async_hooks";
import { once } from "node:events";
import { createServer } from "node:net";
import { env } from "node:process";
import { setTimeout } from "node:timers/promises";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";
import type { EthereumProvider } from "hardhat/types/providers";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";

/** An account that exists from the first block. */
export interface FundedAccount {
  readonly privateKey: Hex;
  readonly balanceWei: bigint;
}

/** What decides the genesis block, and where the node listens. */
export interface HardhatNodeOptions {
  readonly chainId: number;
  readonly accounts: readonly FundedAccount[];
  readonly genesisTimestampS: number;
  readonly host: string;
  readonly port: number;
  /** Hardhat names it as its place for caches; nothing is written there, as nothing is compiled. */
  readonly folder: string;
}

/** One JSON-RPC call. Rejects with the error that the node or the gate answers with. */
export type Perform = (method: string, params: readonly unknown[]) => Promise<unknown>;

/** The gate's way to answer with a JSON-RPC error of its own. */
export class RpcRefusal extends Error {
  /** As JSON-RPC 2.0 and EIP-1474 number them. */
  readonly rpcCode: number;

  constructor(rpcCode: number, message: string) {
    super(message);
    this.name = "RpcRefusal";
    this.rpcCode = rpcCode;
  }
}

/** Hardhat's chain in this process. */
export interface HardhatNode {
  /** Asks the node itself, past the gate. Usable before `listen`. */
  readonly perform: Perform;
  /** Serves JSON-RPC over HTTP, every call through `gate`. Resolves with the port; rejects with `port-in-use`. */
  listen(gate: Perform): Promise<number>;
  /** Refuses new connections, waits for the open ones within the bound, and lets the chain go. */
  close(): Promise<void>;
}

/** The rules of execution are pinned: replaying a journal under another hardfork would give other blocks. */
const HARDFORK = "osaka";
const CLOSE_WITHIN_MS = 2_000;

/** Starts Hardhat as a library: no configuration file, no command line, no compiler, no network, no terminal. */
export async function startHardhatNode(options: HardhatNodeOptions): Promise<HardhatNode> {
  const runtime = await createRuntime(options);
  const inside = new AsyncLocalStorage<true>();
  let provider: EthereumProvider | undefined;
  let gate: Perform | undefined;
  runtime.hooks.registerHandlers("network", {
    async newConnection(context, next) {
      const connection = await next(context);
      provider = connection.provider;
      return connection;
    },
    async onRequest(context, connection, request, next) {
      if (gate === undefined || inside.getStore() === true) return next(context, connection, request);
      const { id } = request;
      try {
        const params = Array.isArray(request.params) ? request.params : [];
        return { jsonrpc: "2.0", id, result: await gate(request.method, params) };
      } catch (error) {
        if (!(error instanceof RpcRefusal)) throw error;
        return { jsonrpc: "2.0", id, error: { code: error.rpcCode, message: error.message } };
      }
    },
  });
  const server = await runtime.network.createServer("local", options.host, options.port);
  let listening = false;
  return {
    async perform(method, params) {
      const node = provider;
      if (node === undefined) throw new GridrootError("chain-stopped", "the chain's node is stopped");
      return inside.run(true, () => node.request({ method, params: [...params] }));
    },
    async listen(outerGate) {
      await requireFreePort(options.host, options.port);
      gate = outerGate;
      const { port } = await server.listen();
      listening = true;
      return port;
    },
    async close() {
      const node = provider;
      provider = undefined;
      if (listening) await within(CLOSE_WITHIN_MS, server.close());
      await node?.close();
    },
  };
}

async function createRuntime(options: HardhatNodeOptions): Promise<HardhatRuntimeEnvironment> {
  // Hardhat reports each new connection to its makers from an interactive terminal, and knows no other switch.
  env["HARDHAT_DISABLE_TELEMETRY"] = "true";
  // Loaded here, because only the process of the chain needs it.
  const { createHardhatRuntimeEnvironment } = await import("hardhat/hre");
  const accounts = options.accounts.map(({ privateKey, balanceWei }) => ({
    privateKey,
    balance: balanceWei,
  }));
  return createHardhatRuntimeEnvironment(
    {
      paths: { cache: options.folder, artifacts: options.folder },
      networks: {
        local: {
          type: "edr-simulated",
          chainId: options.chainId,
          hardfork: HARDFORK,
          initialDate: new Date(options.genesisTimestampS * 1000),
          accounts,
          // Else every block would push the chain's time a second ahead of the clock.
          allowBlocksWithSameTimestamp: true,
          mining: { auto: true, mempool: { order: "fifo" } },
          // As on a real node, the sender of a transaction that reverts learns it from the receipt.
          throwOnTransactionFailures: false,
        },
      },
    },
    {},
    import.meta.dirname,
  );
}

// Hardhat's server does not answer for a taken port: its error would end the process without a reason.
async function requireFreePort(host: string, port: number): Promise<void> {
  const probe = createServer();
  try {
    await once(probe.listen(port, host), "listening");
  } catch (cause) {
    throw new GridrootError("port-in-use", `the chain cannot listen on ${host}:${port}`, { cause });
  }
  probe.close();
  await once(probe, "close");
}

async function within(boundMs: number, work: Promise<void>): Promise<void> {
  const bound = new AbortController();
  await Promise.race([work, setTimeout(boundMs, undefined, { signal: bound.signal })]);
  bound.abort();
}
