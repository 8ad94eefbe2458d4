import assert from "node:assert/strict";
import { after, test } from "node:test";
import mqtt from "mqtt-packet";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { checkOptions, DEFAULT_INGEST_LIMITS } from "./options.ts";
import {
  addMeters,
  openBackend,
  rdTopic,
  readDeadLetters,
  reading,
  readRegion,
  SECRET,
  startWorker,
  type Worker,
} from "./tests/ingest-under-test.ts";
import { connectPacket, publishPacket, RawClient } from "./tests/raw-client.ts";

const backend = await openBackend(await createTestDatabase());
const worker = await startWorker(backend, { maxInFlightPerClient: 4, maxUnreleasedPerClient: 3 });
/** Its patience is short, so it serves nobody but the slow. */
const hasty = await startWorker(backend, { connectTimeoutMs: 1000, packetTimeoutMs: 400 });
after(async () => {
  await Promise.all([worker.stop(), hasty.stop()]);
  await backend.close();
});
await addMeters(backend.pool, ...Array.from({ length: 30 }, (_, index) => `m${index}`));

async function closesFor(reason: string, provoke: () => Promise<RawClient> | RawClient, on: Worker = worker) {
  const before = await on.metric("ingest_connections_closed_total", { reason });
  const client = await provoke();
  await client.waitForClose();
  await until(
    `the close is counted as ${reason}`,
    async () => (await on.metric("ingest_connections_closed_total", { reason })) === before + 1,
  );
  return client;
}

async function connected(meterId: string, port = worker.port): Promise<RawClient> {
  const client = new RawClient(port);
  assert.equal(await client.connect(meterId, SECRET), 0);
  return client;
}

test("a first packet above 1 KiB closes the socket by its length field, before its body is sent", async () => {
  await closesFor("packet-too-large", () => {
    const client = new RawClient(worker.port);
    client.socket.write(Buffer.from([0x10, 0xfe, 0x07]));
    return client;
  });
});

test("a CONNECT of exactly 1 KiB is read, one byte more is not", async () => {
  for (const [size, code] of [
    [1024, 4],
    [1025, -1],
  ] as const) {
    const bare = mqtt.generate(connectPacket("nobody", "")).length + 1;
    const client = new RawClient(worker.port);
    assert.equal(await client.connect("nobody", "x".repeat(size - bare)), code, `${size} bytes`);
    await client.waitForClose();
  }
});

test("a first packet that is no CONNECT closes the socket", async () => {
  await closesFor("not-connect", () => {
    const client = new RawClient(worker.port);
    client.send({ cmd: "pingreq" });
    return client;
  });
});

test("what follows CONNECT at once is read after CONNACK, and after a refusal never", async () => {
  const client = new RawClient(worker.port);
  client.send(connectPacket("m0", SECRET), publishPacket(rdTopic("m0"), reading(1), 1));
  await client.waitFor("puback");
  client.close();
  const received = await worker.metric("ingest_publish_received_total");
  const refused = new RawClient(worker.port);
  refused.send(connectPacket("m0", "wrong"), publishPacket(rdTopic("m0"), reading(2), 1));
  await refused.waitForClose();
  assert.equal(await worker.metric("ingest_publish_received_total"), received);
});

test("a packet of 64 KiB is taken, one byte more closes the socket by its length field", async () => {
  const client = await connected("m1");
  const bare = mqtt.generate(publishPacket(rdTopic("m1"), Buffer.alloc(65_000), 1)).length - 65_000;
  client.send(publishPacket(rdTopic("m1"), Buffer.alloc(65_536 - bare), 1));
  await client.waitFor("puback");
  assert.equal((await readDeadLetters(worker.eventLog))[0]!.value.length, 65_536 - bare);
  await closesFor("packet-too-large", () => {
    const tooLarge = mqtt.generate(publishPacket(rdTopic("m1"), Buffer.alloc(65_537 - bare), 2));
    client.socket.write(tooLarge.subarray(0, 10));
    return client;
  });
});

test("malformed packets close the socket", async () => {
  const malformed: readonly (readonly [string, Buffer])[] = [
    ["a length of five bytes", Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01])],
    ["a packet that only servers send", Buffer.from([0xd0, 0x00])],
    ["reserved flags", Buffer.from([0x83, 0x00])],
    ["QoS 3", Buffer.from([0x36, 0x05, 0, 1, 0x61, 0, 1])],
    ["a topic longer than the packet", Buffer.from([0x30, 0x03, 0, 9, 0x61])],
    ["an identifier that lies in the next packet", Buffer.from([0x32, 0x03, 0, 1, 0x61, 0xc0, 0x00])],
    ["packet identifier 0", Buffer.from([0x32, 0x05, 0, 1, 0x61, 0, 0])],
  ];
  for (const [what, bytes] of malformed) {
    const client = await connected("m2");
    await closesFor("malformed", () => {
      client.socket.write(bytes);
      return client;
    });
    assert.equal(client.count("puback"), 0, what);
  }
});

test("topics that MQTT forbids close the socket and are not received", async () => {
  const received = await worker.metric("ingest_publish_received_total");
  for (const topic of ["mt/v1/mea/bangkok/+/rd", "mt/#", "", "mt/\0", "a/".repeat(200)]) {
    await closesFor("forbidden-topic", async () => {
      const client = await connected("m3");
      const bytes = Buffer.from(topic);
      const body = Buffer.concat([
        Buffer.from([bytes.length >> 8, bytes.length & 255]),
        bytes,
        Buffer.from([0, 1]),
      ]);
      const length = body.length < 128 ? [body.length] : [(body.length & 127) | 128, body.length >> 7];
      client.socket.write(Buffer.concat([Buffer.from([0x32, ...length]), body]));
      return client;
    });
  }
  assert.equal(await worker.metric("ingest_publish_received_total"), received);
});

test("a client that does not finish CONNECT in time is closed", async () => {
  const begin = () => {
    const client = new RawClient(hasty.port);
    client.socket.write(mqtt.generate(connectPacket("m4", SECRET)).subarray(0, 12));
    return client;
  };
  await closesFor("connect-timeout", begin, hasty);
});

test("a client that sends a packet byte by byte is closed, one that pauses between packets is not", async () => {
  const patient = await connected("m5", hasty.port);
  const dribble = async () => {
    const client = await connected("m6", hasty.port);
    const bytes = mqtt.generate(publishPacket(rdTopic("m6"), reading(1), 1));
    let sent = 0;
    const timer = setInterval(() => client.socket.write(bytes.subarray(sent, ++sent)), 20);
    client.socket.on("close", () => clearInterval(timer));
    return client;
  };
  await closesFor("slow-packet", dribble, hasty);
  patient.send(publishPacket(rdTopic("m5"), reading(1), 1));
  await patient.waitFor("puback");
  patient.close();
});

test("a client that is silent for 1.5 times its keep alive is closed", async () => {
  const beganMs = performance.now();
  await closesFor("keepalive", async () => {
    const client = new RawClient(worker.port);
    await client.connect("m7", SECRET, { keepalive: 1 });
    return client;
  });
  assert.ok(performance.now() - beganMs >= 1500);
});

test("above the limit of one client its socket is not read, and all is acknowledged in the end", async () => {
  const client = await connected("m9");
  const identifiers = Array.from({ length: 100 }, (_, index) => index + 1);
  let highest = 0;
  const watch = setInterval(() => {
    void worker.metric("ingest_publish_in_flight").then((count) => (highest = Math.max(highest, count)));
  }, 1);
  client.send(...identifiers.map((id) => publishPacket(rdTopic("m9"), reading(id), id)));
  await client.waitFor("puback", 100);
  clearInterval(watch);
  assert.ok(highest <= 4, `${highest} in flight`);
  assert.deepEqual(client.identifiers("puback"), identifiers);
  client.close();
});

test("above the limits of a worker all clients get their turn", async () => {
  const small = await startWorker(backend, {
    maxInFlightTotal: 3,
    maxInFlightBytes: 65_536,
    maxInFlightPerClient: 2,
  });
  const clients = await Promise.all(
    Array.from({ length: 10 }, (_, index) => connected(`m${index + 10}`, small.port)),
  );
  for (const [index, client] of clients.entries()) {
    const packets = Array.from({ length: 20 }, (_, at) =>
      publishPacket(rdTopic(`m${index + 10}`), reading(at), at + 1),
    );
    client.send(...packets);
  }
  for (const client of clients) await client.waitFor("puback", 20);
  assert.equal(await small.metric("ingest_publish_in_flight"), 0);
  for (const client of clients) client.close();
  await small.stop();
});

test("connections above the limit are dropped", async () => {
  const small = await startWorker(backend, { maxConnections: 2 });
  const [first, second] = [await connected("m20", small.port), await connected("m21", small.port)];
  const third = new RawClient(small.port);
  await third.waitForClose();
  assert.equal(await small.metric("ingest_connects_refused_total", { code: "limit" }), 1);
  first.close();
  second.close();
  await small.stop();
});

test("a QoS 2 publish sent again is acknowledged again and appended once", async () => {
  const client = await connected("m22");
  const first = publishPacket(rdTopic("m22"), reading(1), 5, { qos: 2 });
  const again = publishPacket(rdTopic("m22"), reading(1), 5, { qos: 2, dup: true });
  const repeated = await worker.metric("ingest_publish_repeated_total");
  // The second comes while the first is held, the third after it was acknowledged.
  client.send(first, again);
  await client.waitFor("pubrec", 2);
  client.send(again);
  await client.waitFor("pubrec", 3);
  client.send({ cmd: "pubrel", messageId: 5 });
  await client.waitFor("pubcomp");
  const appended = async () => (await readRegion(worker.eventLog)).filter(({ key }) => key === "m22").length;
  assert.equal(await appended(), 1);
  assert.equal(await worker.metric("ingest_publish_repeated_total"), repeated + 2);
  client.send(publishPacket(rdTopic("m22"), reading(2), 5, { qos: 2 }));
  await client.waitFor("pubrec", 4);
  assert.equal(await appended(), 2, "after PUBREL the identifier is new");
  client.close();
});

test("PUBRECs leave in the order of receipt, repeats among them", async () => {
  const client = await connected("m23");
  const packet = (id: number, dup = false) => publishPacket(rdTopic("m23"), reading(id), id, { qos: 2, dup });
  client.send(packet(1));
  await client.waitFor("pubrec");
  client.send(packet(2), packet(1, true), packet(3));
  await client.waitFor("pubrec", 4);
  assert.deepEqual(client.identifiers("pubrec"), [1, 2, 1, 3]);
  client.close();
});

test("a client that never releases its QoS 2 identifiers is closed", async () => {
  const client = await connected("m24");
  for (const id of [1, 2, 3]) client.send(publishPacket(rdTopic("m24"), reading(id), id, { qos: 2 }));
  await client.waitFor("pubrec", 3);
  await closesFor("too-many-unreleased", () => {
    client.send(publishPacket(rdTopic("m24"), reading(4), 4, { qos: 2 }));
    return client;
  });
});

test("options that contradict one another are refused, all together", () => {
  const options = {
    ...DEFAULT_INGEST_LIMITS,
    host: "127.0.0.1",
    port: 0,
    workerId: "w",
    reusePort: false,
    regions: [],
    partitionsPerRegion: 1,
    clockLimits: { maxAheadS: 60, maxBehindS: 60 },
  };
  assert.throws(() => checkOptions({ ...options, maxPacketBytes: 5_000_000, maxConnections: 0 }), {
    code: "ingest-options",
    message:
      /maxConnections must be positive; regions must not be empty; maxPacketBytes exceeds appendMaxBytes/,
  });
});
