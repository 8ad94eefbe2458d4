import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brokerDefinition } from "./kafka-broker.ts";
import type { KafkaNode } from "./kafka-broker.ts";
import { installKafka, newClusterId } from "./kafka-install.ts";
import { NativeProcess } from "./native-server.ts";
import type { Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";

export interface KafkaOptions {
  readonly dataDir: string;
  /** One without replication, or three with replication 3 of which two must have a record (`min.insync.replicas`). */
  readonly brokers: 1 | 3;
  /** Of the brokers, then of their controllers; free ones where absent. */
  readonly ports?: readonly number[];
}

/** Brokers that are controllers as well. */
export interface KafkaCluster {
  /** `127.0.0.1:port` of each broker. */
  readonly bootstrap: string[];
  /** In the order of their node ids, which begin with 1. A cluster of three answers with two. */
  readonly brokers: readonly NativeServer[];
  /** Stops all brokers; what was acknowledged is there again after their start. */
  stop(): Promise<void>;
}

/** The brokers of a cluster. Defined, not started. */
export async function kafkaBrokers(
  options: KafkaOptions,
  lifetime: Lifetime = {},
): Promise<readonly NativeProcess[]> {
  const nodes: KafkaNode[] = [];
  for (let index = 0; index < options.brokers; index++) {
    nodes.push({
      id: index + 1,
      port: options.ports?.[index] ?? (await freePort()),
      controllerPort: options.ports?.[options.brokers + index] ?? (await freePort()),
      dataDir: join(options.dataDir, `broker-${index + 1}`),
    });
  }
  const clusterId = await clusterIdIn(options.dataDir);
  const isShortLived = lifetime.outlivesStarter !== true;
  return nodes.map(
    (node) =>
      new NativeProcess(
        brokerDefinition({ node, nodes, clusterId, classes: installKafka, isShortLived }),
        lifetime,
      ),
  );
}

/** Starts a cluster of the caller's own; all brokers at once, since one alone has no majority. */
export async function startKafka(options: KafkaOptions): Promise<KafkaCluster> {
  const brokers = await kafkaBrokers(options);
  const cluster: KafkaCluster = {
    bootstrap: brokers.map(({ port }) => `127.0.0.1:${port}`),
    brokers,
    async stop() {
      const running = brokers.filter((one) => one.running);
      const last = brokers.length > 1 ? running.pop() : undefined;
      for (const one of running) await one.stop();
      // It has no majority that would let it go in order; what it acknowledged is written nonetheless.
      await last?.kill();
    },
  };
  const started = await Promise.allSettled(brokers.map((one) => one.start()));
  const failure = started.find((result) => result.status === "rejected");
  if (failure !== undefined) {
    await cluster.stop();
    throw failure.reason;
  }
  return cluster;
}

async function clusterIdIn(dataDir: string): Promise<string> {
  const file = join(dataDir, "cluster-id");
  if (!existsSync(file)) {
    await mkdir(dataDir, { recursive: true });
    await writeFile(`${file}.unfinished`, newClusterId());
    await rename(`${file}.unfinished`, file);
  }
  return readFile(file, "utf8");
}
