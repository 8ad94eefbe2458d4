import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runToEnd } from "./install.ts";
import { brokersSeenBy } from "./kafka-probe.ts";
import { JAVA, findProgram } from "./programs.ts";
import type { Launch, ServerDefinition } from "./server-definition.ts";

/** A broker that is a controller as well (KRaft in combined mode). */
export interface KafkaNode {
  /** From 1. */
  readonly id: number;
  readonly port: number;
  readonly controllerPort: number;
  readonly dataDir: string;
}

export interface KafkaBroker {
  readonly node: KafkaNode;
  /** All of the cluster, this one among them. */
  readonly nodes: readonly KafkaNode[];
  /** 16 bytes in base64url. */
  readonly clusterId: string;
  /** Arguments of Java that bring Kafka's classes; installs them where they are missing. */
  classes(): Promise<readonly string[]>;
  /** Compiles less: a start takes a third of the processor's time, and top speed is lower. For clusters of tests. */
  readonly isShortLived: boolean;
}

const LOGGING = fileURLToPath(new URL("kafka/log4j2.xml", import.meta.url));
const QUICK_START = "-XX:TieredStopAtLevel=1";

/** How a broker is prepared, launched, asked and ended. */
export function brokerDefinition(broker: KafkaBroker): ServerDefinition {
  const { node, nodes } = broker;
  return {
    name: nodes.length === 1 ? "kafka" : `kafka-${node.id}`,
    dataDir: node.dataDir,
    port: node.port,
    stopSignal: "SIGTERM",
    // Some seconds; minutes where many test processes share few processors.
    startWithinMs: 180_000,
    // The last of a cluster waits in vain for a controller that would let it go.
    stopWithinMs: 10_000,
    prepare: () => prepare(broker),
    async answer() {
      const brokers = await brokersSeenBy(node.port);
      if (!brokers.includes(node.id)) throw new Error(`the cluster does not count broker ${node.id} in yet`);
    },
  };
}

async function prepare(broker: KafkaBroker): Promise<Launch> {
  const { node, nodes } = broker;
  const java = findProgram(JAVA);
  const properties = join(node.dataDir, "server.properties");
  const temporary = join(node.dataDir, "tmp");
  // Java leaves the native parts of its jars there when it is killed.
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  await writeFile(properties, propertiesOf(node, nodes));
  const jvm = [
    ...(await broker.classes()),
    ...["-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"],
    ...[`-Djava.io.tmpdir=${temporary}`, `-Dgridroot.logs=${node.dataDir}`],
    `-Dlog4j2.configurationFile=${LOGGING}`,
  ];
  const formatted = join(node.dataDir, "formatted");
  if (!existsSync(formatted)) {
    await runToEnd(java, [
      ...[...jvm, QUICK_START, "kafka.tools.StorageTool", "format", "--ignore-formatted"],
      ...["-t", broker.clusterId, "-c", properties],
    ]);
    await writeFile(formatted, "");
  }
  const heap = nodes.length === 1 ? "-Xmx512m" : "-Xmx384m";
  const compiler = broker.isShortLived ? [QUICK_START] : [];
  return { command: java, args: [...jvm, ...compiler, heap, "kafka.Kafka", properties] };
}

/** Settings that differ from Kafka's own are those of size, of speed after a fault, and of a server for one machine. */
function propertiesOf(node: KafkaNode, nodes: readonly KafkaNode[]): string {
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
