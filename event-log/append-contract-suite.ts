import assert from "node:assert/strict";
import { test } from "node:test";
import { GroupRecord, RecordingConsumer } from "../tests/support/recording-consumer.ts";
import { until } from "../tests/support/until.ts";
import type { ContractContext } from "./contract-suite.ts";
import type { Appender, LogRecord, NewRecord } from "./event-log.ts";

/** A seeded generator of integers below `bound`, so that a failing order can be had again. */
function randomBelow(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function record(topic: string, partition: number, key: string, text = key): NewRecord {
  return { topic, partition, key, headers: { kind: "rd" }, value: Buffer.from(text) };
}

function keysOf(records: readonly LogRecord[]): string[] {
  return records.map(({ key }) => key);
}

/** What is appended, read and dropped, without groups. */
export function appendContract(context: () => ContractContext): void {
  test("what an append resolved for is read back byte by byte, by another process too", async () => {
    const { log, subject, freshTopic } = context();
    const topic = await freshTopic(1);
    const allBytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const odd = {
      "": "",
      ключ: "значение",
      "line\nbreak": "tab\tnul\0",
      long: "é".repeat(50_000),
      emoji: "⚡🏡",
    };
    const values = [
      new Uint8Array(0),
      allBytes,
      new Uint8Array(65_536).fill(7),
      new Uint8Array(600_000).fill(9),
    ];
    const appended = values.map((value, at) => ({
      topic,
      partition: 0,
      key: ["", "m-1", "mètre/2", "k".repeat(300)][at]!,
      headers: [
        {},
        odd,
        JSON.parse('{"__proto__":"kept","kind":"rd"}') as Record<string, string>,
        { kind: "ev" },
      ][at]!,
      value,
    }));
    const appender = await log.openAppender();
    await appender.append(appended);
    await appender.close();

    const other = await subject.openAnother();
    const read = await other.read({ topic, partition: 0 }, 0n, 100);
    assert.deepEqual(
      read.map(({ key, headers, value }) => ({
        key,
        headers: Object.entries(headers).sort(),
        value: [...value],
      })),
      appended.map(({ key, headers, value }) => ({
        key,
        headers: Object.entries(headers).sort(),
        value: [...value],
      })),
    );
    await other.close();
  });

  test("offsets of a partition rise by one in the order given, and append times never fall", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    const appenders = await Promise.all([log.openAppender(), log.openAppender()]);
    for (let round = 0; round < 5; round += 1) {
      for (const [at, appender] of appenders.entries()) {
        const keys = Array.from({ length: 300 }, (_, n) => `${round}-${at}-${n}`);
        await appender.append(keys.map((key, n) => record(topic, n % 2, key)));
      }
    }
    for (const partition of [0, 1]) {
      const read = await log.read({ topic, partition }, 0n, 10_000);
      assert.deepEqual(
        read.map(({ offset }) => offset),
        Array.from({ length: 1500 }, (_, n) => BigInt(n)),
      );
      const expected = [0, 1, 2, 3, 4].flatMap((round) =>
        [0, 1].flatMap((at) => Array.from({ length: 150 }, (_, n) => `${round}-${at}-${2 * n + partition}`)),
      );
      assert.deepEqual(keysOf(read), expected);
      assert.ok(read.every(({ appendTimeMs }, n) => n === 0 || appendTimeMs >= read[n - 1]!.appendTimeMs));
    }
    await Promise.all(appenders.map((appender) => appender.close()));
  });

  test("reading begins at the offset asked for and ends at the limit or the end", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(1);
    const partition = { topic, partition: 0 };
    const appender = await log.openAppender();
    await appender.append(["a", "b", "c"].map((key) => record(topic, 0, key)));
    await appender.append(["d", "e"].map((key) => record(topic, 0, key)));
    assert.deepEqual(keysOf(await log.read(partition, 1n, 3)), ["b", "c", "d"]);
    assert.deepEqual(keysOf(await log.read(partition, 4n, 3)), ["e"]);
    assert.deepEqual(await log.read(partition, 5n, 3), []);
    await appender.close();
  });

  test("a second append before the first has settled throws", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(1);
    const appender = await log.openAppender();
    const first = appender.append([record(topic, 0, "first")]);
    await assert.rejects(async () => appender.append([record(topic, 0, "second")]));
    await first;
    await appender.append([record(topic, 0, "third")]);
    assert.deepEqual(keysOf(await log.read({ topic, partition: 0 }, 0n, 9)), ["first", "third"]);
    await appender.close();
  });

  test("an append to a partition that does not exist rejects, and the appender goes on", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    const appender = await log.openAppender();
    await assert.rejects(appender.append([record(topic, 2, "nowhere")]));
    await assert.rejects(appender.append([record(`${topic}.missing`, 0, "nowhere")]));
    await appender.append([record(topic, 1, "here")]);
    assert.deepEqual(keysOf(await log.read({ topic, partition: 1 }, 0n, 9)), ["here"]);
    await appender.close();
  });

  test("topics are created once, and a differing partition count is refused", async () => {
    const { log, subject, freshTopic } = context();
    const topic = await freshTopic(3);
    const other = await subject.openAnother();
    const fresh = { topic: `${topic}.raced`, partitions: 4 };
    await Promise.all([log.ensureTopics([fresh]), other.ensureTopics([fresh]), log.ensureTopics([fresh])]);
    await assert.rejects(log.ensureTopics([{ topic, partitions: 4 }]), { code: "topic-partitions" });
    await log.ensureTopics([{ topic, partitions: 3 }]);
    assert.deepEqual(await log.bounds({ topic: fresh.topic, partition: 3 }), { first: 0n, next: 0n });
    await other.close();
  });

  test("no reader skips a record when appends become visible late and out of order", async () => {
    const { subject, freshTopic } = context();
    const partitions = 3;
    const topic = await freshTopic(partitions);
    const group = new GroupRecord();
    const reader = await new RecordingConsumer(group).join(subject.log, `out-of-order-${topic}`, [topic]);
    const random = randomBelow(20_260);
    const appenders = await Promise.all(Array.from({ length: 6 }, () => subject.openSlowAppender(15)));
    const perAppender = 12;
    const appendAll = async (appender: Appender, at: number) => {
      for (let n = 0; n < perAppender; n += 1) {
        const size = 1 + random(4);
        await appender.append(
          Array.from({ length: size }, (_, i) => record(topic, random(partitions), `${at}-${n}-${i}`)),
        );
      }
    };
    await Promise.all(appenders.map(appendAll));
    const bounds = await Promise.all(
      Array.from({ length: partitions }, (_, partition) => subject.log.bounds({ topic, partition })),
    );
    const total = bounds.reduce((sum, { next }) => sum + Number(next), 0);
    await until("every record has been delivered", () => group.count() >= total);
    assert.deepEqual(group.breaches, []);
    for (const [partition, { next }] of bounds.entries()) {
      const seen = group.records.get(`${topic}/${partition}`) ?? [];
      assert.deepEqual(
        seen.map(({ offset }) => offset),
        Array.from({ length: Number(next) }, (_, n) => BigInt(n)),
      );
    }
    await reader.member.stop();
    await Promise.all(appenders.map((appender) => appender.close()));
  });

  test("appenders over many partitions in random orders never deadlock", async () => {
    const { log, freshTopic } = context();
    const partitions = 16;
    const topic = await freshTopic(partitions);
    const random = randomBelow(7);
    const appenders = await Promise.all(Array.from({ length: 8 }, () => log.openAppender()));
    const appends = 30;
    await Promise.all(
      appenders.map(async (appender, at) => {
        for (let n = 0; n < appends; n += 1) {
          const order = Array.from({ length: partitions }, (_, p) => ({ p, rank: random(1_000_000) }));
          order.sort((a, b) => a.rank - b.rank);
          await appender.append(order.map(({ p }) => record(topic, p, `${at}`, `${n}`)));
        }
      }),
    );
    for (let partition = 0; partition < partitions; partition += 1) {
      const read = await log.read({ topic, partition }, 0n, 10_000);
      assert.equal(read.length, appenders.length * appends);
      for (const [at] of appenders.entries()) {
        const own = read
          .filter(({ key }) => key === `${at}`)
          .map(({ value }) => Number(Buffer.from(value).toString()));
        assert.deepEqual(
          own,
          Array.from({ length: appends }, (_, n) => n),
        );
      }
    }
    await Promise.all(appenders.map((appender) => appender.close()));
  });

  test("an offset is found by append time", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(1);
    const partition = { topic, partition: 0 };
    const appender = await log.openAppender();
    assert.equal(await log.offsetAfter(partition, 0), 0n);
    for (const key of ["a", "b", "c"]) {
      await appender.append([record(topic, 0, key), record(topic, 0, key)]);
      const [last] = await log.read(partition, (await log.bounds(partition)).next - 1n, 1);
      await until("the log's clock has moved on", async () => {
        await appender.append([record(topic, 0, "tick")]);
        const [tick] = await log.read(partition, (await log.bounds(partition)).next - 1n, 1);
        return tick!.appendTimeMs > last!.appendTimeMs;
      });
    }
    const all = await log.read(partition, 0n, 10_000);
    const times = [...new Set(all.map(({ appendTimeMs }) => appendTimeMs))];
    for (const timeMs of [0, times[0]! - 1, ...times]) {
      const expected = all.find(({ appendTimeMs }) => appendTimeMs > timeMs)?.offset ?? BigInt(all.length);
      assert.equal(await log.offsetAfter(partition, timeMs), expected);
    }
    await appender.close();
  });

  test("an offset found for a past time stays true while appends are in flight", async () => {
    const { log, subject, freshTopic } = context();
    const topic = await freshTopic(2);
    const [busy, ticking] = [0, 1].map((partition) => ({ topic, partition }));
    const appenders = await Promise.all([0, 1, 2].map(() => subject.openSlowAppender(20)));
    const ticker = await log.openAppender();
    const answers: { timeMs: number; offset: bigint }[] = [];
    const appendAll = async (appender: Appender, at: number) => {
      for (let n = 0; n < 8; n += 1) await appender.append([record(topic, 0, `${at}-${n}`)]);
    };
    const askAll = async () => {
      for (let n = 0n; n < 40n; n += 1n) {
        // The other partition serves as the log's clock; the millisecond before it is over.
        await ticker.append([record(topic, 1, "tick")]);
        const [tick] = await log.read(ticking!, n, 1);
        const timeMs = tick!.appendTimeMs - 1;
        answers.push({ timeMs, offset: await log.offsetAfter(busy!, timeMs) });
      }
    };
    await Promise.all([...appenders.map(appendAll), askAll()]);
    const all = await log.read(busy!, 0n, 1_000);
    for (const { timeMs, offset } of answers) {
      const late = all.find((record) => record.offset >= offset && record.appendTimeMs <= timeMs);
      assert.equal(
        late,
        undefined,
        `offset ${late?.offset} of ${late?.appendTimeMs} came after ${timeMs} was answered`,
      );
    }
    await Promise.all([ticker, ...appenders].map((appender) => appender.close()));
  });

  test("trimming drops records below an offset and nothing at or above it", async () => {
    const { log, freshTopic } = context();
    const topic = await freshTopic(2);
    const partition = { topic, partition: 0 };
    const appender = await log.openAppender();
    for (let n = 0; n < 10; n += 1) {
      await appender.append(
        [0, 1, 2].flatMap((i) => [record(topic, 0, `${n}-${i}`), record(topic, 1, "kept")]),
      );
    }
    await log.trim(partition, 16n);
    const { first, next } = await log.bounds(partition);
    assert.ok(first > 0n && first <= 16n, `first is ${first}`);
    assert.equal(next, 30n);
    const read = await log.read(partition, 0n, 100);
    assert.equal(read[0]?.offset, first);
    assert.equal(read.length, Number(next - first));
    await log.trim(partition, 3n);
    assert.deepEqual(await log.bounds(partition), { first, next }, "trimming never goes back");
    await log.trim(partition, 30n);
    assert.deepEqual(await log.bounds(partition), { first: 30n, next: 30n });
    await appender.append([record(topic, 0, "after")]);
    assert.deepEqual(
      (await log.read(partition, 0n, 9)).map(({ offset }) => offset),
      [30n],
    );
    assert.deepEqual(await log.bounds({ topic, partition: 1 }), { first: 0n, next: 30n });
    await appender.close();
  });
}
