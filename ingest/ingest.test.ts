import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connectAsync } from "mqtt";
import { createTestDatabase } from "../tests/support/postgres.ts";
import {
  addMeters,
  openBackend,
  rdTopic,
  readDeadLetters,
  reading,
  readRegion,
  SECRET,
  startWorker,
} from "./tests/ingest-under-test.ts";
import { publishPacket, RawClient } from "./tests/raw-client.ts";

const backend = await openBackend(await createTestDatabase());
const worker = await startWorker(backend);
after(async () => {
  await worker.stop();
  await backend.close();
});

test("a published reading is in the log when its PUBACK arrives, byte by byte, with its headers", async () => {
  await addMeters(backend.pool, "m1");
  const client = await connectAsync({
    port: worker.port,
    host: "127.0.0.1",
    clientId: "m1",
    username: "m1",
    password: SECRET,
    protocolVersion: 4,
  });
  const payload = `  ${reading(1)} `;
  await client.publishAsync(rdTopic("m1"), payload, { qos: 1 });
  const [record] = await readRegion(worker.eventLog);
  assert.equal(Buffer.from(record!.value).toString(), payload);
  assert.equal(record!.key, "m1");
  assert.deepEqual(
    { ...record!.headers },
    {
      kind: "rd",
      "mqtt-topic": "mt/v1/mea/bangkok/m1/rd",
      qos: "1",
      "received-ms": String(worker.clock.nowMs()),
      "service-point": "sp-m1",
    },
  );
  await client.publishAsync(rdTopic("m1"), reading(2), { qos: 2 });
  await client.publishAsync("mt/v1/mea/bangkok/m1/ev", '{"code":7}', { qos: 1 });
  await client.publishAsync("mt/v1/mea/bangkok/m1/birth", '{"firmware":"1.2"}', { qos: 1 });
  assert.deepEqual(
    (await readRegion(worker.eventLog)).map(({ headers }) => headers["kind"]),
    ["rd", "rd", "ev", "birth"],
  );
  await client.endAsync();
});

test("no acknowledgement leaves while its append is under way, though the connection is answered", async () => {
  await addMeters(backend.pool, "held");
  const client = new RawClient(worker.port);
  assert.equal(await client.connect("held", SECRET), 0);
  const connection = await backend.pool.connect();
  await connection.query("begin");
  await connection.query("select from log.head for update");
  const [first, second] = [
    publishPacket(rdTopic("held"), reading(1), 1),
    publishPacket(rdTopic("held"), reading(2), 2, { qos: 2 }),
  ];
  // Whatever was answered before the ping arrives before its answer.
  client.send(first, second, { cmd: "pingreq" });
  await client.waitFor("pingresp");
  assert.equal(client.count("puback") + client.count("pubrec"), 0);
  await connection.query("rollback");
  connection.release();
  await client.waitFor("puback");
  await client.waitFor("pubrec");
  client.close();
});

test("acknowledgements leave in the order of receipt", async () => {
  await addMeters(backend.pool, "m2");
  const client = new RawClient(worker.port);
  assert.equal(await client.connect("m2", SECRET), 0);
  const identifiers = Array.from({ length: 300 }, (_, index) => index + 1);
  client.send(...identifiers.map((id) => publishPacket(rdTopic("m2"), reading(id), id)));
  await client.waitFor("puback", 300);
  assert.deepEqual(client.identifiers("puback"), identifiers);
  const records = (await readRegion(worker.eventLog)).filter(({ key }) => key === "m2");
  assert.deepEqual(
    records.map(({ value }) => (JSON.parse(Buffer.from(value).toString()) as { seq: number }).seq),
    identifiers,
  );
  client.close();
});

test("what cannot be read is acknowledged as a dead letter, with its bytes, topic, client and reason", async () => {
  await addMeters(backend.pool, "m3");
  const client = new RawClient(worker.port);
  await client.connect("m3", SECRET);
  client.send(publishPacket(rdTopic("m3"), Buffer.from([0x7b, 0xff, 0x00]), 1));
  await client.waitFor("puback");
  const letter = (await readDeadLetters(worker.eventLog)).find(({ key }) => key === "m3");
  assert.deepEqual([...letter!.value], [0x7b, 0xff, 0x00]);
  assert.equal(letter!.headers["client"], "m3");
  assert.equal(letter!.headers["mqtt-topic"], rdTopic("m3"));
  assert.equal(letter!.headers["reason"], "not-utf8");
  client.close();
});
