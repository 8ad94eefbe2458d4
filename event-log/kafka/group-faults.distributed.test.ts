import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Broker, type Cluster, PartitionAssigners } from "kafkajs";
import pino from "pino";
import { type KafkaCluster, startKafka } from "../../deploy/stack/kafka.ts";
import { FencedLedger } from "../../tests/support/fenced-ledger.ts";
import { GroupRecord, RecordingConsumer } from "../../tests/support/recording-consumer.ts";
import { until } from "../../tests/support/until.ts";
import type { EventLog } from "../event-log.ts";
import { KafkaConnection } from "./kafka-connection.ts";
import { KafkaEventLog, type KafkaEventLogOptions } from "./kafka-event-log.ts";

const SESSION_TIMEOUT_MS = 6_000;
const PATIENCE_MS = 60_000;
const log = pino({ level: "silent" });

/** What kafkajs's broker can do beside what it declares. */
interface Coordinator {
  leaveGroup(member: { groupId: string; memberId: string }): Promise<unknown>;
}

/** A cluster of its own for the tests of a suite, and a log in it. */
function ownCluster(brokers: 1 | 3) {
  let folder = "";
  let cluster: KafkaCluster | undefined;
  let opened: KafkaEventLog[] = [];
  const options = (): KafkaEventLogOptions => ({
    brokers: cluster!.bootstrap,
    namespace: "faults",
    replication: brokers,
    minInsyncReplicas: Math.min(2, brokers),
    sessionTimeoutMs: SESSION_TIMEOUT_MS,
    heartbeatMs: 500,
    retryPauseMs: 100,
  });
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "gridroot-group-faults-"));
    cluster = await startKafka({ dataDir: folder, brokers });
  });
  after(async () => {
    await Promise.all(opened.map((one) => one.close()));
    await cluster?.stop();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    options,
    get brokers() {
      return cluster!.brokers;
    },
    async open(tuning: Partial<KafkaEventLogOptions> = {}): Promise<KafkaEventLog> {
      const one = await KafkaEventLog.open({ ...options(), ...tuning }, { log });
      opened.push(one);
      return one;
    },
    connect: () =>
      KafkaConnection.open({ ...options(), connectTimeoutMs: 2_000, requestTimeoutMs: 10_000 }, { log }),
  };
}

/** A client of its own with what kafkajs shows of the cluster to assigners only. */
async function bareCluster(connection: KafkaConnection) {
  const client = connection.newClient(0, { retries: 2 });
  let inside: Cluster | undefined;
  client.kafka.consumer({
    groupId: "never-joined",
    partitionAssigners: [
      (config) => {
        inside = config.cluster;
        return PartitionAssigners.roundRobin(config);
      },
    ],
  });
  await inside!.connect();
  await inside!.refreshMetadata();
  return { client, inside: inside! };
}

/** Appends `count` records to each of the partitions at once. */
async function fill(eventLog: EventLog, topic: string, partitions: number, count: number): Promise<void> {
  const appender = await eventLog.openAppender();
  await appender.append(
    Array.from({ length: partitions * count }, (_, n) => ({
      topic,
      partition: n % partitions,
      key: `${n}`,
      headers: {},
      value: Buffer.from("x"),
    })),
  );
  await appender.close();
}

/** Appends records "0", "1", … to each of the partitions, each again until it is confirmed. */
function keepAppending(eventLog: EventLog, topic: string, partitions: number) {
  let confirmed = 0;
  const stopping = new AbortController();
  const run = async () => {
    const appender = await eventLog.openAppender();
    while (!stopping.signal.aborted) {
      const records = Array.from({ length: partitions }, (_, partition) => ({
        topic,
        partition,
        key: `${confirmed}`,
        headers: {},
        value: Buffer.from("x"),
      }));
      const done = await appender.append(records).then(
        () => true,
        () => false,
      );
      if (done) confirmed += 1;
      await delay(5);
    }
    await appender.close();
  };
  const running = run();
  return {
    confirmed: () => confirmed,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Waits until every confirmed record was consumed, each partition's in order; repeated appends may come twice. */
async function allConsumed(group: GroupRecord, topic: string, partitions: number, confirmed: number) {
  const names = Array.from({ length: partitions }, (_, partition) => `${topic}/${partition}`);
  const last = (name: string) => Number(group.records.get(name)?.at(-1)?.key ?? -1);
  await until(
    "all that was confirmed is consumed",
    () => names.every((name) => last(name) >= confirmed - 1),
    PATIENCE_MS,
  );
  for (const name of names) {
    const keys = new Set(group.records.get(name)!.map(({ key }) => key));
    for (let n = 0; n < confirmed; n += 1) assert.ok(keys.has(`${n}`), `${name} lacks ${n}`);
  }
  assert.deepEqual(group.breaches, []);
}

describe("members of a Kafka group, one broker", () => {
  const cluster = ownCluster(1);

  async function deleteTopic(topic: string): Promise<void> {
    const connection = await cluster.connect();
    const name = connection.topicName(topic);
    await connection.admin.deleteTopics({ topics: [name] });
    await until("it has gone", async () => !(await connection.admin.listTopics()).includes(name));
    await connection.close();
  }

  /** Makes a group's only member leave behind its back. */
  async function throwOut(group: string): Promise<void> {
    const connection = await cluster.connect();
    const groupId = connection.groupName(group);
    const { groups } = await connection.admin.describeGroups([groupId]);
    const { memberId } = groups[0]!.members[0]!;
    const { client, inside } = await bareCluster(connection);
    const coordinator = (await inside.findGroupCoordinator({ groupId })) as Broker & Coordinator;
    await coordinator.leaveGroup({ groupId, memberId });
    client.cut();
    await connection.close();
  }

  test("a member joins during batches: what stays goes on undisturbed, what moves is aborted first, all is read once", async () => {
    const [one, other] = [await cluster.open(), await cluster.open()];
    await one.ensureTopics([{ topic: "busy", partitions: 6 }]);
    await fill(one, "busy", 6, 10);
    const group = new GroupRecord();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const aborted = new Set<number>();
    let pending = 0;
    const first = new RecordingConsumer(group);
    first.onBatch = async ({ partition }, signal) => {
      pending += 1;
      const { promise: abort, reject } = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => {
        aborted.add(partition);
        setTimeout(() => reject(signal.reason as Error), 2_000);
      });
      await Promise.race([released, abort]);
    };
    await first.join(one, "busy", ["busy"]);
    await until("all handlers are busy", () => pending === 6);
    const second = await new RecordingConsumer(group).join(other, "busy", ["busy"]);
    await until("the second has its share", () => second.owned.size === 3);
    assert.equal(aborted.size, 3);
    assert.equal(first.owned.size, 3);
    assert.equal(pending, 6, "what stays is neither aborted nor begun anew");
    release();
    await until("all is read", () => group.count() === 60);
    assert.deepEqual(group.breaches, []);
    await Promise.all([first.member.stop(), second.member.stop()]);
  });

  test("hints are what the cluster's tools show of a group", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "hinted", partitions: 1 }]);
    await fill(eventLog, "hinted", 1, 10);
    const consumer = await new RecordingConsumer().join(eventLog, "hinted", ["hinted"]);
    await until("all is read", () => consumer.group.count() === 10);
    await consumer.member.hint({ topic: "hinted", partition: 0 }, consumer.group.positions.get("hinted/0")!);
    await consumer.member.stop();
    const connection = await cluster.connect();
    const groupId = connection.groupName("hinted");
    const [offsets] = await connection.admin.fetchOffsets({ groupId });
    await connection.close();
    assert.equal(offsets!.partitions[0]!.offset, "10");
  });

  test("a partition whose records were dropped under its busy consumer halts, the other goes on", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "dropped", partitions: 2 }]);
    await fill(eventLog, "dropped", 2, 10);
    const { promise: blocked, resolve: unblock } = Promise.withResolvers<void>();
    const consumer = new RecordingConsumer();
    let taken = false;
    consumer.onBatch = ({ partition }) => {
      taken ||= partition === 0;
      return partition === 0 ? blocked : Promise.resolve();
    };
    await consumer.join(eventLog, "dropped", ["dropped"]);
    await until("a batch is in the consumer's hands", () => taken);
    await fill(eventLog, "dropped", 2, 10);
    const connection = await cluster.connect();
    await connection.admin.deleteTopicRecords({
      topic: connection.topicName("dropped"),
      partitions: [{ partition: 0, offset: "15" }],
    });
    await connection.close();
    unblock();
    await until("the partition has halted", () => consumer.halts.size === 1);
    assert.equal(consumer.halts.get("dropped/0")?.code, "log-trimmed");
    assert.equal(consumer.group.records.get("dropped/0")?.length, 10);
    await fill(eventLog, "dropped", 2, 10);
    await until(
      "the other partition is read on",
      () => consumer.group.records.get("dropped/1")?.length === 30,
    );
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("an idle consumer notices a topic that was made anew and stays empty", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "emptied", partitions: 1 }]);
    await fill(eventLog, "emptied", 1, 10);
    const consumer = await new RecordingConsumer().join(eventLog, "emptied", ["emptied"]);
    await until("all is read", () => consumer.group.count() === 10);
    await deleteTopic("emptied");
    await eventLog.ensureTopics([{ topic: "emptied", partitions: 1 }]);
    await until("the partition has halted", () => consumer.halts.size === 1);
    assert.equal(consumer.halts.get("emptied/0")?.code, "log-truncated");
    await consumer.member.stop();
  });

  test("a topic that is missing or deleted holds back no other, and is taken in when it is there", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "stays", partitions: 1 }]);
    const consumer = await new RecordingConsumer().join(eventLog, "gone", ["stays", "comes"]);
    const read = (topic: string) => consumer.group.records.get(`${topic}/0`)?.length ?? 0;
    await fill(eventLog, "stays", 1, 5);
    await until("the one topic is read", () => read("stays") === 5);
    await eventLog.ensureTopics([{ topic: "comes", partitions: 1 }]);
    await fill(eventLog, "comes", 1, 5);
    await until("the other is read as well", () => read("comes") === 5);
    await deleteTopic("comes");
    await fill(eventLog, "stays", 1, 5);
    await until("the one topic is read on", () => read("stays") === 10, PATIENCE_MS);
    await eventLog.ensureTopics([{ topic: "comes", partitions: 1 }]);
    await until("what was made anew has halted", () => consumer.halts.has("comes/0"), PATIENCE_MS);
    await fill(eventLog, "stays", 1, 5);
    await until("the one topic is read on", () => read("stays") === 15);
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("a member that was thrown out gives everything up before it joins anew", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "thrown", partitions: 2 }]);
    const consumer = await new RecordingConsumer().join(eventLog, "thrown", ["thrown"]);
    await until("it holds both", () => consumer.owned.size === 2);
    await throwOut("thrown");
    await until("it has both anew", () => consumer.calls.length === 6 && consumer.owned.size === 2);
    assert.deepEqual(
      consumer.calls.slice(2, 4).map((call) => call.split(" ")[0]),
      ["revoked", "revoked"],
    );
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("a member suspended beyond its session gives everything up before it does anything else, and loads anew", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "fenced", partitions: 2 }]);
    await fill(eventLog, "fenced", 2, 10);
    const ledger = new FencedLedger();
    const { promise: goOn, resolve: letGoOn } = Promise.withResolvers<void>();
    const program = fileURLToPath(new URL("../../tests/support/fenced-kafka-member.ts", import.meta.url));
    const child = fork(program, [JSON.stringify(cluster.options()), "fenced", "fenced"], {
      serialization: "advanced",
    });
    try {
      const calls = ledger.serve(child, { open: () => goOn });
      await until(
        "both partitions are in its hands",
        () => calls.includes("began 0") && calls.includes("began 1"),
      );
      child.kill("SIGSTOP");
      const handler = ledger.handler();
      const member = await eventLog.join("fenced", ["fenced"], handler);
      const reached = (offset: bigint) => [0, 1].every((partition) => ledger.reached(partition) === offset);
      await until("the other member has taken over and read all", () => reached(10n), PATIENCE_MS);
      const before = calls.length;
      letGoOn();
      child.kill("SIGCONT");
      await until("they share", () => handler.owned.size === 1 && calls.slice(before).includes("store 0"));
      await until("one was assigned anew", () =>
        calls.slice(before).some((call) => call.startsWith("assigned")),
      );
      const since = calls.slice(before);
      const anew = since.findIndex((call) => call.startsWith("assigned"));
      assert.deepEqual(
        since.slice(0, anew).toSorted(),
        ["revoked 0", "revoked 1", "store 0", "store 1"],
        "what was in its hands comes to an end, and nothing else happens before it joins anew",
      );
      assert.equal(ledger.refused, 2, "its writes were those of a former owner");
      await fill(eventLog, "fenced", 2, 10);
      await until("both go on", () => reached(20n));
      assert.equal(ledger.refused, 2);
      await member.stop();
    } finally {
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    }
  });

  test("a member that hears nothing of the cluster gives everything up by itself, and goes on once it does", async () => {
    const eventLog = await cluster.open();
    await eventLog.ensureTopics([{ topic: "unheard", partitions: 2 }]);
    await fill(eventLog, "unheard", 2, 10);
    const consumer = await new RecordingConsumer().join(eventLog, "unheard", ["unheard"]);
    await until("all is read", () => consumer.group.count() === 20);
    const [broker] = cluster.brokers;
    broker!.pause();
    try {
      await until("it holds nothing", () => consumer.owned.size === 0);
    } finally {
      broker!.resume();
    }
    await until("it holds both again", () => consumer.owned.size === 2, PATIENCE_MS);
    await fill(eventLog, "unheard", 2, 10);
    await until("it reads on", () => consumer.group.count() === 40);
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("the broker is killed and started again: consumers go on, nothing is skipped", async () => {
    const [one, other] = [await cluster.open(), await cluster.open()];
    await one.ensureTopics([{ topic: "killed", partitions: 4 }]);
    const group = new GroupRecord();
    const a = await new RecordingConsumer(group).join(one, "killed", ["killed"]);
    const b = await new RecordingConsumer(group).join(other, "killed", ["killed"]);
    await until("they share", () => a.owned.size === 2 && b.owned.size === 2);
    const appending = keepAppending(one, "killed", 4);
    await until("records flow", () => group.count() > 200);
    const [broker] = cluster.brokers;
    await broker!.kill();
    await broker!.start();
    const confirmed = appending.confirmed();
    await until("appends go on", () => appending.confirmed() > confirmed + 20, PATIENCE_MS);
    await appending.stop();
    await allConsumed(group, "killed", 4, appending.confirmed());
    await Promise.all([a.member.stop(), b.member.stop()]);
  });
});

describe("members of a Kafka group, three brokers", () => {
  const cluster = ownCluster(3);

  /** Node id of the broker that coordinates a group. */
  async function coordinatorOf(group: string): Promise<number> {
    const connection = await cluster.connect();
    const { client, inside } = await bareCluster(connection);
    const groupId = connection.groupName(group);
    const { coordinator } = await inside.findGroupCoordinatorMetadata({ groupId });
    client.cut();
    await connection.close();
    return coordinator.nodeId;
  }

  test("the broker that leads partitions and the group is killed: only what moves is revoked, nothing is skipped", async () => {
    // No session may run out while the others take the dead broker's place.
    const tuning = { sessionTimeoutMs: 40_000, heartbeatMs: 500 };
    const logs = await Promise.all([1, 2, 3].map(() => cluster.open(tuning)));
    await logs[0]!.ensureTopics([{ topic: "led", partitions: 6 }]);
    const group = new GroupRecord();
    const members = [1, 2, 3].map(() => new RecordingConsumer(group));
    const join = (index: number) => members[index]!.join(logs[index]!, "led", ["led"]);
    const shares = () => String(members.map(({ owned }) => owned.size));
    await Promise.all([join(0), join(1)]);
    await until("they share", () => shares() === "3,3,0", PATIENCE_MS);
    const revoked = () =>
      members.flatMap(({ calls }) => calls).filter((call) => call.startsWith("revoked")).length;
    const before = revoked();
    const appending = keepAppending(logs[0]!, "led", 6);
    await until("records flow", () => group.count() > 200, PATIENCE_MS);
    const nodeId = await coordinatorOf("led");
    await cluster.brokers[nodeId - 1]!.kill();
    const confirmed = appending.confirmed();
    await until("appends go on", () => appending.confirmed() > confirmed + 50, PATIENCE_MS);
    await join(2);
    await until("they share with a third one", () => shares() === "2,2,2", PATIENCE_MS);
    await appending.stop();
    await allConsumed(group, "led", 6, appending.confirmed());
    assert.equal(revoked() - before, 2);
    await Promise.all(members.map(({ member }) => member.stop()));
  });
});
