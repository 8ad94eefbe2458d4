import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installOnce, runToEnd } from "./install.ts";
import { brokersSeenBy } from "./kafka-probe.ts";
import { NativeProcess } from "./native-server.ts";
import type { Launch, Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { JAVA, MAVEN, findProgram } from "./programs.ts";
import { VERSIONS } from "./versions.ts";

export interface KafkaOptions {
  readonly dataDir: string;
  /** One without replication, or three with replication 3 of which two must have a record (`min.insync.replicas`). */
  readonly brokers: 1 | 3;
  /** Of the brokers, then of their controllers; free ones where absent. */
  readonly ports?: readonly number[];
}

/** Brokers that are controllers as well (KRaft in combined mode). */
export interface KafkaCluster {
  /** `127.0.0.1:port` of each broker. */
  readonly bootstrap: string[];
  /** In the order of their node ids, which begin with 1. A cluster of three answers with two. */
  readonly brokers: readonly NativeServer[];
  /** Stops all brokers; what was acknowledged is there again after their start. */
  stop(): Promise<void>;
}

interface Node {
  readonly id: number;
  readonly port: number;
  readonly controllerPort: number;
  readonly dataDir: string;
}

const RECIPE = fileURLToPath(new URL("kafka/", import.meta.url));

/** The brokers of a cluster. Defined, not started. */
export async function kafkaBrokers(
  options: KafkaOptions,
  lifetime: Lifetime = {},
): Promise<readonly NativeProcess[]> {
  const nodes: Node[] = [];
  for (let index = 0; index < options.brokers; index++) {
    nodes.push({
      id: index + 1,
      port: options.ports?.[index] ?? (await freePort()),
      controllerPort: options.ports?.[options.brokers + index] ?? (await freePort()),
      dataDir: join(options.dataDir, `broker-${index + 1}`),
    });
  }
  const clusterId = await clusterIdIn(options.dataDir);
  return nodes.map((node) => broker(node, nodes, clusterId, lifetime));
}

/** Starts a cluster of the caller's own; all brokers at once, since one alone has no majority. */
export async function startKafka(options: KafkaOptions): Promise<KafkaCluster> {
  const brokers = await kafkaBrokers(options);
  const cluster: KafkaCluster = {
    bootstrap: brokers.map(({ port }) => `127.0.0.1:${port}`),
    brokers,
    async stop() {
      await Promise.all(brokers.map((one) => one.stop()));
    },
  };
  // Fetched once, before the brokers would all fetch it.
  await installKafka();
  const started = await Promise.allSettled(brokers.map((one) => one.start()));
  const failure = started.find((result) => result.status === "rejected");
  if (failure !== undefined) {
    await cluster.stop();
    throw failure.reason;
  }
  return cluster;
}

/**
 * Folder of Kafka's jars, fetched from Maven Central where the cache does not have them yet.
 *
 * @throws GridrootError `program-missing`: Maven is not installed.
 */
export async function installKafka(): Promise<string> {
  return installOnce("kafka", VERSIONS.kafka, "45 jars from Maven Central, 43 MB", async (folder) => {
    await runToEnd(findProgram(MAVEN), [
      ...["--batch-mode", "--quiet", "--file", join(RECIPE, "pom.xml")],
      `org.apache.maven.plugins:maven-dependency-plugin:${VERSIONS.mavenDependencyPlugin}:copy-dependencies`,
      ...[`-Dkafka.version=${VERSIONS.kafka}`, `-Dlog4j.version=${VERSIONS.log4j}`],
      `-DoutputDirectory=${folder}`,
    ]);
  });
}

function broker(node: Node, nodes: readonly Node[], clusterId: string, lifetime: Lifetime): NativeProcess {
  return new NativeProcess(
    {
      name: nodes.length === 1 ? "kafka" : `kafka-${node.id}`,
      dataDir: node.dataDir,
      port: node.port,
      stopSignal: "SIGTERM",
      startWithinMs: 60_000,
      // The last of a cluster waits in vain for a controller that would let it go.
      stopWithinMs: 10_000,
      prepare: () => prepare(node, nodes, clusterId),
      answer: () => isRegistered(node),
    },
    lifetime,
  );
}

async function prepare(node: Node, nodes: readonly Node[], clusterId: string): Promise<Launch> {
  const java = findProgram(JAVA);
  const jars = join(await installKafka(), "*");
  const properties = join(node.dataDir, "server.properties");
  const temporary = join(node.dataDir, "tmp");
  // Java leaves the native parts of its jars there when it is killed.
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  await writeFile(properties, propertiesOf(node, nodes));
  const jvm = ["-cp", jars, "-XX:-UsePerfData", `-Djava.io.tmpdir=${temporary}`];
  const logging = [
    `-Dlog4j2.configurationFile=${join(RECIPE, "log4j2.xml")}`,
    `-Dgridroot.logs=${node.dataDir}`,
  ];
  const formatted = join(node.dataDir, "formatted");
  if (!existsSync(formatted)) {
    await runToEnd(java, [
      ...[...jvm, ...logging, "kafka.tools.StorageTool", "format", "--ignore-formatted"],
      ...["-t", clusterId, "-c", properties],
    ]);
    await writeFile(formatted, "");
  }
  const heap = nodes.length === 1 ? "-Xmx512m" : "-Xmx384m";
  return {
    command: java,
    args: [
      ...[...jvm, ...logging, heap, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"],
      ...["kafka.Kafka", properties],
    ],
  };
}

/** Settings that differ from Kafka's own are those of size, of speed after a fault, and of a server for one machine. */
function propertiesOf(node: Node, nodes: readonly Node[]): string {
  const replication = nodes.length;
  const minInSync = Math.min(2, replication);
  return [
    "process.roles=broker,controller",
    `node.id=${node.id}`,
    `controller.quorum.voters=${nodes.map(({ id, controllerPort }) => `${id}@127.0.0.1:${controllerPort}`).join(",")}`,
    "controller.listener.names=CONTROLLER",
    "inter.broker.listener.name=BROKER",
    "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    `listeners=BROKER://127.0.0.1:${node.port},CONTROLLER://127.0.0.1:${node.controllerPort}`,
    `advertised.listeners=BROKER://127.0.0.1:${node.port}`,
    `log.dirs=${join(node.dataDir, "data")}`,
    "auto.create.topics.enable=false",
    "delete.topic.enable=true",
    `default.replication.factor=${replication}`,
    `min.insync.replicas=${minInSync}`,
    `offsets.topic.replication.factor=${replication}`,
    "offsets.topic.num.partitions=8",
    `transaction.state.log.replication.factor=${replication}`,
    `transaction.state.log.min.isr=${minInSync}`,
    "transaction.state.log.num.partitions=8",
    `share.coordinator.state.topic.replication.factor=${replication}`,
    `share.coordinator.state.topic.min.isr=${minInSync}`,
    "group.initial.rebalance.delay.ms=0",
    // A dead broker's partitions get other leaders after 3 s, not 9.
    "broker.session.timeout.ms=3000",
    "broker.heartbeat.interval.ms=500",
    "",
  ].join("\n");
}

/** Rejects until the broker serves clients and the cluster counts it in. */
async function isRegistered(node: Node): Promise<void> {
  const brokers = await brokersSeenBy(node.port);
  if (!brokers.includes(node.id)) throw new Error(`the cluster does not count broker ${node.id} in yet`);
}

/** Kafka names a cluster by 16 bytes in base64url. */
async function clusterIdIn(dataDir: string): Promise<string> {
  const file = join(dataDir, "cluster-id");
  if (!existsSync(file)) {
    await mkdir(dataDir, { recursive: true });
    // The first of its characters is no hyphen, which the format tool would take for an option.
    const id = Buffer.concat([Buffer.from([0]), randomBytes(15)]).toString("base64url");
    await writeFile(`${file}.unfinished`, id);
    await rename(`${file}.unfinished`, file);
  }
  return readFile(file, "utf8");
}
