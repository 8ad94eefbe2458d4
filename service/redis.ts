import { Redis, type RedisOptions, ReplyError } from "ioredis";
import type { Logger } from "pino";
import { GridrootError } from "./errors.ts";

/** Shortest and longest pause between two attempts to connect, ms. */
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;
const CONNECT_WITHIN_MS = 5_000;
/** After so long a command has failed, unless it is one that waits for Redis. */
const ANSWER_WITHIN_MS = 3_000;
/** How often Redis is asked for a sign of life: a broken network may leave connections that look open. */
const PING_EVERY_MS = 5_000;
const NO_EVICTION = "noeviction";
const KEYS_AT_A_TIME = 500;

/** Where Redis is. */
export interface RedisAddress {
  /** `redis://` or, over TLS, `rediss://`; user, password and database number in it where there are any. */
  readonly url: string;
}

/**
 * The connections that a queue and a worker need. They are made again for as long as it takes when Redis goes away.
 * An outage is told in one line at its begin and one at its end.
 */
export class RedisConnections {
  /** Its commands fail at once while Redis is away, and after 3 s without an answer: none pile up. */
  readonly prompt: Redis;
  /** Its commands wait until Redis has answered, however long that takes. */
  readonly patient: Redis;
  /** The same, for commands that block. */
  readonly blocking: Redis;
  readonly #log: Logger;
  readonly #listeners: ((isAway: boolean) => void)[] = [];
  #isAway = false;
  #isEnded = false;
  #pinging: NodeJS.Timeout | undefined;

  private constructor({ url }: RedisAddress, { log }: { log: Logger }) {
    this.#log = log;
    const retryStrategy = (attempt: number) => (this.#isEnded ? null : pauseBefore(attempt));
    const patient = { ...COMMON, retryStrategy, maxRetriesPerRequest: null };
    this.prompt = new Redis(url, { ...COMMON, ...PROMPT, retryStrategy });
    this.patient = new Redis(url, patient);
    this.blocking = new Redis(url, patient);
    // ioredis prints what nobody listens for. That a connection is lost shows in its state.
    for (const redis of this.#all) redis.on("error", () => {});
  }

  /**
   * Connects once and makes sure that Redis keeps what it is given.
   *
   * @throws GridrootError `redis-unavailable` (retryable): no answer in time; `redis-refused`: it does not let this
   * user in; `redis-evicts`: its `maxmemory-policy` is another than `noeviction`, so that jobs could vanish.
   */
  static async open(address: RedisAddress, dependencies: { log: Logger }): Promise<RedisConnections> {
    await withRedis(address, (redis) => requireNoEviction(redis, dependencies.log));
    const connections = new RedisConnections(address, dependencies);
    try {
      await Promise.all(connections.#all.map(connect));
    } catch (cause) {
      await connections.end();
      throw unavailable(cause);
    }
    connections.#watch();
    return connections;
  }

  /** Whether commands fail at once now. */
  get isAway(): boolean {
    return this.#isAway;
  }

  /** Calls `listener` when Redis has gone away and when it is back, perhaps without its data. */
  onChange(listener: (isAway: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** Ends all connections at once, so that whatever waits for an answer fails. Never rejects; may be called again. */
  async end(): Promise<void> {
    this.#isEnded = true;
    clearInterval(this.#pinging);
    await Promise.all(this.#all.map(endConnection));
  }

  get #all(): readonly Redis[] {
    return [this.prompt, this.patient, this.blocking];
  }

  #watch(): void {
    this.prompt.on("close", () => this.#changed(true));
    this.prompt.on("ready", () => this.#changed(false));
    this.#pinging = setInterval(() => void this.#ping(), PING_EVERY_MS);
  }

  #changed(isAway: boolean): void {
    if (this.#isEnded || isAway === this.#isAway) return;
    this.#isAway = isAway;
    if (isAway) {
      this.#log.warn("redis is away, connecting again");
    } else {
      this.#log.info("redis is back");
      requireNoEviction(this.prompt, this.#log).catch((error: unknown) =>
        this.#log.error({ err: error }, "redis may lose jobs"),
      );
    }
    for (const listener of this.#listeners) listener(isAway);
  }

  async #ping(): Promise<void> {
    if (this.prompt.status !== "ready") return;
    try {
      await this.prompt.ping();
    } catch (error) {
      if (this.#isEnded || error instanceof ReplyError) return;
      for (const redis of this.#all) if (redis.status === "ready") redis.disconnect(true);
    }
  }
}

/**
 * Deletes every key below a namespace. Idempotent. Nothing of it may be in use.
 *
 * @throws GridrootError `redis-unavailable`, `redis-refused`
 */
export async function deleteRedisNamespace(address: RedisAddress & { namespace: string }): Promise<void> {
  const match = `${keyPrefix(address.namespace)}:*`;
  await withRedis(address, async (redis) => {
    for await (const keys of redis.scanStream({ match, count: KEYS_AT_A_TIME })) {
      if ((keys as string[]).length > 0) await redis.unlink(...(keys as string[]));
    }
  });
}

/** What the keys of a namespace begin with. The braces put all of them into one slot of a cluster. */
export function keyPrefix(namespace: string): string {
  return `{${namespace}}`;
}

const COMMON: RedisOptions = {
  lazyConnect: true,
  connectTimeout: CONNECT_WITHIN_MS,
  // How long a server may take to close its end.
  disconnectTimeout: 500,
  keepAlive: 10_000,
  // After a failover the old primary takes no writes: connect again, to the new one, and say it there.
  reconnectOnError: (error) => (error.message.startsWith("READONLY") ? 2 : false),
};

const PROMPT: RedisOptions = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  commandTimeout: ANSWER_WITHIN_MS,
};

function pauseBefore(attempt: number): number {
  return Math.min(RETRY_MIN_MS * 2 ** Math.min(attempt - 1, 10), RETRY_MAX_MS);
}

/** Does something over a connection of its own that is not made again. */
async function withRedis<T>({ url }: RedisAddress, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { ...COMMON, ...PROMPT, retryStrategy: () => null });
  let failure: unknown;
  redis.on("error", (error) => (failure ??= error));
  try {
    await connect(redis).catch((error: unknown) => {
      throw failure ?? error;
    });
    return await work(redis);
  } catch (cause) {
    if (cause instanceof GridrootError) throw cause;
    throw isRefusal(cause) ? refused(cause) : unavailable(cause);
  } finally {
    await endConnection(redis);
  }
}

/** Rejects when the first attempt fails, or takes too long, as while Redis loads its data. */
async function connect(redis: Redis): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("not ready in time")), CONNECT_WITHIN_MS);
  try {
    await Promise.race([redis.connect(), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function requireNoEviction(redis: Redis, log: Logger): Promise<void> {
  // INFO tells it where a hosted Redis forbids CONFIG.
  const policy = /^maxmemory_policy:(\S+)/m.exec(await redis.info("memory"))?.[1];
  if (policy === undefined) {
    log.warn("redis does not tell its maxmemory-policy, which must be noeviction");
  } else if (policy !== NO_EVICTION) {
    throw new GridrootError(
      "redis-evicts",
      `Redis has maxmemory-policy ${policy} and may drop jobs: set it to ${NO_EVICTION}`,
    );
  }
}

async function endConnection(redis: Redis): Promise<void> {
  if (redis.status === "end") return;
  const ended = new Promise((done) => redis.once("end", done));
  // Between two attempts there is no socket whose closing would end it, and its commands would wait for ever; an
  // attempt that is given up at once ends it.
  if (redis.status === "reconnecting") redis.connect().catch(() => {});
  redis.disconnect();
  await ended;
}

/** Whether Redis has answered, and the answer is no: a wrong password, a missing permission. */
function isRefusal(cause: unknown): boolean {
  return cause instanceof Error && /\b(NOAUTH|WRONGPASS|NOPERM|DENIED)/.test(cause.message);
}

function refused(cause: unknown): GridrootError {
  return new GridrootError("redis-refused", "Redis refuses the user or the password", { cause });
}

function unavailable(cause: unknown): GridrootError {
  return new GridrootError("redis-unavailable", "Redis cannot be reached", { cause, retryable: true });
}
