import assert from "node:assert/strict";
import { test } from "node:test";
import { GroupRecord, RecordingConsumer } from "../tests/support/recording-consumer.ts";
import { until } from "../tests/support/until.ts";
import type { ContractContext } from "./contract-suite.ts";
import type { EventLog } from "./event-log.ts";

/** Appends `count` records to each of the partitions, keys "0", "1", … */
async function fill(log: EventLog, topic: string, partitions: number, count: number): Promise<void> {
  const appender = await log.openAppender();
  for (let n = 0; n < count; n += 1) {
    await appender.append(
      Array.from({ length: partitions }, (_, partition) => ({
        topic,
        partition,
        key: `${n}`,
        headers: {},
        value: Buffer.from(`${n}`),
      })),
    );
  }
  await appender.close();
}

/** Groups: who owns what, where they begin, and when they halt. */
export function groupContract(context: () => ContractContext): void {
  test("a group begins with the oldest record and goes on from its stored positions", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    await fill(log, topic, 2, 10);
    const group = new GroupRecord();
    const first = await new RecordingConsumer(group).join(log, "positions", [topic]);
    await until("the first member has read all", () => group.count() === 20);
    await first.member.stop();

    await fill(log, topic, 2, 5);
    const second = await new RecordingConsumer(group).join(log, "positions", [topic]);
    await until("the second member has read the rest", () => group.count() === 30);
    for (const partition of [0, 1]) {
      const offsets = group.records.get(`${topic}/${partition}`)!.map(({ offset }) => offset);
      assert.deepEqual(
        offsets,
        Array.from({ length: 15 }, (_, n) => BigInt(n)),
      );
    }
    assert.deepEqual(group.breaches, []);
    await second.member.stop();
  });

  test("a position in the middle of what was appended at once is honoured", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(1);
    const appender = await log.openAppender();
    await appender.append(
      Array.from({ length: 50 }, (_, n) => ({
        topic,
        partition: 0,
        key: `${n}`,
        headers: {},
        value: Buffer.from("x"),
      })),
    );
    const group = new GroupRecord();
    const first = new RecordingConsumer(group);
    // Stores the position after the 20th record and then fails, as a process that dies half way through.
    first.onBatch = (batch) => {
      group.positions.set(`${topic}/0`, batch.positionAfter(batch.records[19]!));
      return Promise.reject(new Error("on purpose"));
    };
    await first.join(log, "middle", [topic]);
    await until("a position is stored", () => group.positions.size === 1);
    await first.member.stop();
    const second = await new RecordingConsumer(group).join(log, "middle", [topic]);
    await until("the rest has come", () => group.count() === 30);
    assert.equal(group.records.get(`${topic}/0`)![0]!.key, "20");
    await second.member.stop();
    await appender.close();
  });

  test("each partition has one owner, members share fairly, and what a member leaves the others take", async () => {
    const { log, subject, freshTopic } = context();
    const topic = await freshTopic(7);
    const group = new GroupRecord();
    const other = await subject.openAnother();
    const [a, b, c] = [
      new RecordingConsumer(group),
      new RecordingConsumer(group),
      new RecordingConsumer(group),
    ];
    const shares = (...members: RecordingConsumer[]) =>
      members.map(({ owned }) => owned.size).sort((x, y) => x - y);
    await a.join(log, "fair", [topic]);
    await until("one member owns all", () => a.owned.size === 7);
    await b.join(other, "fair", [topic]);
    await until("two members share", () => String(shares(a, b)) === "3,4");
    await c.join(other, "fair", [topic]);
    await until("three members share", () => String(shares(a, b, c)) === "2,2,3");
    await fill(log, topic, 7, 20);
    await until("all is read", () => group.count() === 140);
    await a.member.stop();
    assert.equal(a.owned.size, 0);
    await until("two take over", () => String(shares(b, c)) === "3,4");
    await fill(log, topic, 7, 5);
    await until("all is read by those left", () => group.count() === 175);
    assert.deepEqual(group.breaches, []);
    await Promise.all([b.member.stop(), c.member.stop()]);
    await other.close();
  });

  test("members that joined different topics own only theirs", async () => {
    const { log, freshTopic } = context();
    const [x, y] = [await freshTopic(3), await freshTopic(4)];
    const group = new GroupRecord();
    const a = await new RecordingConsumer(group).join(log, "mixed", [x]);
    const b = await new RecordingConsumer(group).join(log, "mixed", [x, y]);
    await until("all partitions are owned", () => a.owned.size === 3 && b.owned.size === 4);
    assert.ok([...a.owned].every((name) => name.startsWith(`${x}/`)));
    assert.deepEqual(group.breaches, []);
    await Promise.all([a.member.stop(), b.member.stop()]);
  });

  test("the partitions of a member that was killed are taken over", async () => {
    const { log, subject, freshTopic } = context();
    const topic = await freshTopic(4);
    const consumer = await new RecordingConsumer().join(log, "killed", [topic]);
    await until("the only member owns all", () => consumer.owned.size === 4);
    const elsewhere = await subject.joinElsewhere("killed", [topic]);
    await until("the other process has its share", () => consumer.owned.size === 2);
    await elsewhere.kill();
    await until("its share has come back", () => consumer.owned.size === 4, subject.takeOverWithinMs);
    await fill(log, topic, 4, 3);
    await until("all is read", () => consumer.group.count() === 12);
    await consumer.member.stop();
  });

  test("a blocked consumer holds back its partition and nobody else", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(12);
    const { promise: blocked, resolve: unblock } = Promise.withResolvers<void>();
    const slow = new RecordingConsumer();
    slow.onBatch = ({ partition }) => (partition < 8 ? blocked : Promise.resolve());
    await slow.join(log, "blocked", [topic]);
    const quick = await new RecordingConsumer().join(log, "unblocked", [topic]);
    await fill(log, topic, 12, 10);
    await until("another group has read all", () => quick.group.count() === 120);
    await until("the partitions that are free have been read", () => slow.group.count() === 40);
    unblock();
    await until("the blocked partitions go on", () => slow.group.count() === 120);
    assert.deepEqual(slow.group.breaches, []);
    await Promise.all([slow.member.stop(), quick.member.stop()]);
  });

  test("a rejected batch is revoked, assigned anew and delivered again", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    const consumer = new RecordingConsumer();
    let failures = 2;
    consumer.onBatch = ({ partition }) => {
      if (partition === 1 || failures === 0) return Promise.resolve();
      failures -= 1;
      return Promise.reject(new Error("on purpose"));
    };
    await fill(log, topic, 2, 4);
    await consumer.join(log, "rejecting", [topic]);
    await until("all is read", () => consumer.group.count() === 8);
    const calls = consumer.calls.filter((call) => call.endsWith("/0"));
    const [assigned, revoked] = [`assigned ${topic}/0`, `revoked ${topic}/0`];
    assert.deepEqual(calls, [assigned, revoked, assigned, revoked, assigned]);
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("a partition whose state cannot be loaded is tried again, the others go on", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    const consumer = new RecordingConsumer();
    const load = consumer.assigned.bind(consumer);
    let failures = 2;
    consumer.assigned = async (partition) => {
      const position = await load(partition);
      if (partition.partition === 0 && failures-- > 0) throw new Error("on purpose");
      return position;
    };
    await fill(log, topic, 2, 4);
    await consumer.join(log, "loading", [topic]);
    await until("all is read", () => consumer.group.count() === 8);
    assert.deepEqual(consumer.group.breaches, []);
    await consumer.member.stop();
  });

  test("stopping aborts what is pending, waits for it, revokes once, and nothing comes after", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(3);
    const consumer = new RecordingConsumer();
    let pending = 0;
    let aborted = 0;
    consumer.onBatch = (_, signal) =>
      new Promise((_resolve, reject) => {
        pending += 1;
        signal.addEventListener("abort", () => {
          aborted += 1;
          setImmediate(() => reject(signal.reason as Error));
        });
      });
    await fill(log, topic, 2, 4);
    await consumer.join(log, "stopping", [topic]);
    await until("three partitions are held, two are busy", () => consumer.owned.size === 3 && pending === 2);
    await consumer.member.stop();
    const calls = [...consumer.calls];
    assert.equal(calls.filter((call) => call.startsWith("assigned")).length, 3);
    assert.equal(calls.filter((call) => call.startsWith("revoked")).length, 3);
    assert.equal(aborted, 2);
    assert.deepEqual(consumer.group.breaches, []);
    await fill(log, topic, 3, 1);
    const next = await new RecordingConsumer().join(log, "stopping", [topic]);
    await until("a later member reads all", () => next.group.count() === 11);
    assert.deepEqual(consumer.calls, calls);
    await next.member.stop();
  });

  test("lag is what the bounds say beyond the stored position", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(1);
    await fill(log, topic, 1, 6);
    const consumer = await new RecordingConsumer().join(log, "lag", [topic]);
    await until("all is read", () => consumer.group.count() === 6);
    const position = consumer.group.positions.get(`${topic}/0`)!;
    await consumer.member.hint({ topic, partition: 0 }, position);
    await consumer.member.stop();
    await fill(log, topic, 1, 4);
    assert.equal((await log.bounds({ topic, partition: 0 })).next - position.nextOffset, 4n);
  });

  for (const code of ["log-recreated", "log-truncated", "log-trimmed"] as const) {
    test(`a stored position that does not fit halts its partition alone: ${code}`, async () => {
      const { log, subject, freshTopic } = context();
      const [topic, other] = [await freshTopic(1), await freshTopic(1)];
      await fill(log, topic, 1, 10);
      const group = new GroupRecord();
      const before = await new RecordingConsumer(group).join(log, code, [topic]);
      await until("all is read", () => group.count() === 10);
      await before.member.stop();
      const stored = group.positions.get(`${topic}/0`)!;

      if (code === "log-recreated") {
        await subject.recreateTopic({ topic, partitions: 1 });
        // As long as before: the offset alone would look right.
        await fill(log, topic, 1, 20);
      } else if (code === "log-truncated") {
        await subject.truncateTopic(topic, 4n);
      } else {
        await fill(log, topic, 1, 5);
        await log.trim({ topic, partition: 0 }, 15n);
      }
      const member = await new RecordingConsumer(group).join(log, code, [topic, other]);
      await until("the partition has halted", () => member.halts.size === 1);
      assert.equal(member.halts.get(`${topic}/0`)?.code, code);
      await fill(log, other, 1, 3);
      await until("the other topic is read", () => group.records.get(`${other}/0`)?.length === 3);
      assert.equal(group.records.get(`${topic}/0`)!.length, 10, "nothing is delivered after a halt");
      assert.deepEqual(group.positions.get(`${topic}/0`), stored);
      await member.member.stop();
    });

    test(`a consumer that runs halts too: ${code}`, async () => {
      const { log, subject, freshTopic } = context();
      const topic = await freshTopic(1);
      await fill(log, topic, 1, 10);
      const { promise: blocked, resolve: unblock } = Promise.withResolvers<void>();
      const consumer = new RecordingConsumer();
      let taken = false;
      consumer.onBatch = () => {
        taken = true;
        return blocked;
      };
      await consumer.join(log, `running-${code}`, [topic]);
      await until("a batch is in the consumer's hands", () => taken);
      if (code === "log-recreated") {
        await subject.recreateTopic({ topic, partitions: 1 });
        await fill(log, topic, 1, 20);
      } else if (code === "log-truncated") {
        await subject.truncateTopic(topic, 4n);
      } else {
        await fill(log, topic, 1, 5);
        await log.trim({ topic, partition: 0 }, 15n);
      }
      unblock();
      await until("the partition has halted", () => consumer.halts.size === 1);
      assert.equal(consumer.halts.get(`${topic}/0`)?.code, code);
      assert.ok(consumer.group.count() <= 10);
      await consumer.member.stop();
    });
  }
}
