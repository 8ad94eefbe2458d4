import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { Kafka, logLevel } from "kafkajs";
import { startInflux } from "../../deploy/stack/influxdb.ts";
import { type KafkaCluster, startKafka } from "../../deploy/stack/kafka.ts";
import type { NativeServer } from "../../deploy/stack/native-server.ts";
import { startPostgres } from "../../deploy/stack/postgres.ts";
import { startRedis } from "../../deploy/stack/redis.ts";
import { type Backends, BESIDE_IT, ON_THE_WAY } from "./backends.ts";
import { cutPostgres, postgresAnswers } from "./embedded-backends.ts";
import { AT_ONCE, SERVER_KINDS, type Strikes, type Target, targetOf } from "./targets.ts";

const ANSWER_WITHIN_MS = 2000;

/** Three Kafka brokers, InfluxDB, Redis and PostgreSQL of this run alone, as processes below the folder. */
export async function distributedBackends(folder: string): Promise<Backends> {
  const started: { stop(): Promise<void> }[] = [];
  const starting = async <T extends { stop(): Promise<void> }>(server: Promise<T>): Promise<T> => {
    started.push(await server);
    return server;
  };
  const stop = async (): Promise<void> => void (await Promise.all(started.map((server) => server.stop())));
  const outcomes = Promise.all([
    starting(startKafka({ dataDir: join(folder, "kafka"), brokers: 3 })),
    starting(startInflux({ dataDir: join(folder, "influxdb") })),
    starting(startRedis({ dataDir: join(folder, "redis") })),
    starting(startPostgres({ dataDir: join(folder, "postgres") })),
  ]);
  const [kafka, influxdb, redis, postgres] = await outcomes.catch(async (cause: unknown) => {
    await stop();
    throw cause;
  });
  return {
    environment: {
      GRIDROOT_PROFILE: "distributed",
      GRIDROOT_NAMESPACE: "chaos",
      GRIDROOT_KAFKA_BROKERS: kafka.bootstrap.join(","),
      GRIDROOT_KAFKA_REPLICATION: "3",
      GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS: "2",
      // A dead recorder's partitions wait as long for the next one: above every pause, and no longer than needed.
      GRIDROOT_KAFKA_SESSION_TIMEOUT_MS: "10000",
      GRIDROOT_INFLUX_URL: influxdb.url,
      GRIDROOT_INFLUX_ORG: influxdb.org,
      GRIDROOT_INFLUX_TOKEN: influxdb.token,
      GRIDROOT_REDIS_URL: redis.url,
      GRIDROOT_POSTGRES_URL: postgres.url,
    },
    targets: () =>
      Promise.resolve([
        ...kafka.brokers.map((broker, index) =>
          serverTarget(`kafka-${index + 1}`, broker, BESIDE_IT, {}, () => isInSync(kafka)),
        ),
        serverTarget("influxdb", influxdb, ON_THE_WAY, {}, () => influxAnswers(influxdb.url)),
        serverTarget("redis", redis, BESIDE_IT, { cut: () => cutRedis(redis.url) }, () => pings(redis.url)),
        serverTarget("postgres", postgres, ON_THE_WAY, { cut: () => cutPostgres(postgres.url) }, () =>
          postgresAnswers(postgres.url),
        ),
      ]),
    stop,
  };
}

function serverTarget(
  name: string,
  server: NativeServer,
  weight: number,
  more: Strikes,
  isUp: () => Promise<boolean>,
): Target {
  const kill = async (forMs: number): Promise<void> => {
    await server.kill();
    await delay(forMs);
    await server.start();
  };
  const pause = async (forMs: number): Promise<void> => {
    server.pause();
    try {
      await delay(forMs);
    } finally {
      server.resume();
    }
  };
  const kinds = { ...SERVER_KINDS, ...(more.cut === undefined ? {} : { cut: AT_ONCE }) };
  // An outage is asked for, never drawn.
  return targetOf({ name, weight, kinds }, { kill, pause, outage: kill, ...more }, isUp);
}

/** Whether every partition has all of its replicas: the next broker may be struck without a write being refused. */
async function isInSync({ bootstrap }: KafkaCluster): Promise<boolean> {
  const admin = new Kafka({
    clientId: "chaos",
    brokers: bootstrap,
    connectionTimeout: ANSWER_WITHIN_MS,
    requestTimeout: ANSWER_WITHIN_MS,
    retry: { retries: 1 },
    logLevel: logLevel.NOTHING,
  }).admin();
  try {
    await admin.connect();
    const { topics } = await admin.fetchTopicMetadata();
    const partitions = topics.flatMap((topic) => topic.partitions);
    return partitions.every(({ isr, replicas }) => isr.length === replicas.length);
  } finally {
    await admin.disconnect();
  }
}

async function influxAnswers(url: string): Promise<boolean> {
  const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  await response.arrayBuffer();
  return response.ok;
}

async function pings(url: string): Promise<boolean> {
  return withRedis(url, async (client) => (await client.ping()) === "PONG");
}

async function cutRedis(url: string): Promise<void> {
  await withRedis(url, (client) => client.client("KILL", "TYPE", "normal", "SKIPME", "yes"));
}

async function withRedis<T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, {
    lazyConnect: true,
    commandTimeout: ANSWER_WITHIN_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    return await work(client);
  } finally {
    client.disconnect();
  }
}
