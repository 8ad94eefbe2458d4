import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { NativeProcess } from "./native-server.ts";
import type { Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { REDIS_SERVER, findProgram } from "./programs.ts";

export interface RedisOptions {
  readonly dataDir: string;
  /** A free one where absent. */
  readonly port?: number;
  /** Further arguments of `redis-server`; a later one overrides the stack's own. */
  readonly args?: readonly string[];
}

export interface RedisAddress {
  readonly url: string;
}

/** Redis as jobs need it: nothing is evicted, and what was written survives a restart. Defined, not started. */
export async function redisServer(
  options: RedisOptions,
  lifetime: Lifetime = {},
): Promise<NativeProcess & RedisAddress> {
  const port = options.port ?? (await freePort());
  const url = `redis://127.0.0.1:${port}`;
  const data = join(options.dataDir, "data");
  const server = new NativeProcess(
    {
      name: "redis",
      dataDir: options.dataDir,
      port,
      stopSignal: "SIGTERM",
      startWithinMs: 30_000,
      stopWithinMs: 10_000,
      async prepare() {
        const command = findProgram(REDIS_SERVER);
        await mkdir(data, { recursive: true });
        return {
          command,
          args: [
            ...["--bind", "127.0.0.1", "--port", String(port), "--dir", data, "--daemonize", "no"],
            ...["--maxmemory", "512mb", "--maxmemory-policy", "noeviction", "--appendonly", "yes"],
            ...(options.args ?? []),
          ],
        };
      },
      answer: () => ping(url),
    },
    lifetime,
  );
  return Object.assign(server, { url });
}

/** Starts a Redis of the caller's own. */
export async function startRedis(options: RedisOptions): Promise<NativeServer & RedisAddress> {
  const server = await redisServer(options);
  await server.start();
  return server;
}

/** Rejects as well while the server still loads its data. */
async function ping(url: string): Promise<void> {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: 2_000,
    commandTimeout: 2_000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  // A refused connection rejects the call below as well.
  client.on("error", () => {});
  try {
    await client.connect();
    await client.ping();
  } finally {
    client.disconnect();
  }
}
