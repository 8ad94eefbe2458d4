import assert from "node:assert/strict";
import { after, test } from "node:test";
import { REGISTRY_CHANNEL } from "../ledger/meters.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
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
const worker = await startWorker(backend, { workerId: "worker-1", reusePort: true });
const other = await startWorker(backend, { workerId: "worker-2", reusePort: true, port: worker.port });
after(async () => {
  await worker.stop();
  await other.stop();
  await backend.close();
});

async function connected(meterId: string): Promise<RawClient> {
  const client = new RawClient(worker.port);
  assert.equal(await client.connect(meterId, SECRET), 0);
  return client;
}

const will = { topic: rdTopic("victim"), payload: Buffer.from(reading(1)), qos: 1, retain: true } as const;

await addMeters(backend.pool, "known", "retired", "victim");
await backend.pool.query("update meter set retired_at = 1 where meter_id = 'retired'");

const REFUSED: readonly [string, Parameters<RawClient["connect"]>, number][] = [
  ["a wrong secret", ["known", "not the secret"], 4],
  ["an unknown meter", ["nobody", SECRET], 4],
  ["no user name", ["known", SECRET, { username: undefined, password: undefined } as object], 4],
  ["a user name that no meter can have", ["known", SECRET, { username: "a/\0b", clientId: "a/\0b" }], 4],
  ["a client id that is not the user name", ["known", SECRET, { clientId: "victim" }], 2],
  ["an empty client id", ["known", SECRET, { clientId: "" }], 2],
  ["a retired meter", ["retired", SECRET], 5],
  ["a will", ["known", SECRET, { will }], 5],
  ["MQTT 3.1", ["known", SECRET, { protocolVersion: 3, protocolId: "MQIsdp" }], 1],
  ["MQTT 5", ["known", SECRET, { protocolVersion: 5 }], 1],
];
for (const [what, args, code] of REFUSED) {
  test(`${what} is refused with code ${code} and the connection is closed`, async () => {
    const client = new RawClient(worker.port);
    assert.equal(await client.connect(...args), code);
    await client.waitForClose();
  });
}

test("a will is neither kept nor published", async () => {
  const client = new RawClient(worker.port);
  await client.connect("known", SECRET, { will });
  await client.waitForClose();
  assert.equal((await readRegion(worker.eventLog)).length, 0);
  assert.equal((await readDeadLetters(worker.eventLog)).length, 0);
});

test("no session is kept, even for a client that asks for one", async () => {
  const client = new RawClient(worker.port);
  await client.connect("known", SECRET, { clean: false });
  client.send({
    cmd: "subscribe",
    messageId: 1,
    subscriptions: [{ topic: "mt/v1/mea/bangkok/known/cmd", qos: 1 }],
  });
  await client.waitFor("suback");
  client.close();
  const again = new RawClient(worker.port);
  await again.connect("known", SECRET, { clean: false });
  const connack = again.received.find((packet) => packet.cmd === "connack");
  assert.equal(connack?.cmd === "connack" && connack.sessionPresent, false);
  again.close();
});

test("a meter subscribes to its own commands and to nothing else", async () => {
  const client = await connected("known");
  const topics = [
    "mt/v1/mea/bangkok/known/cmd",
    "mt/v1/mea/bangkok/victim/cmd",
    "mt/v1/mea/bangkok/+/cmd",
    "mt/#",
    "#",
    "$SYS/#",
    rdTopic("known"),
  ];
  client.send({
    cmd: "subscribe",
    messageId: 1,
    subscriptions: topics.map((topic) => ({ topic, qos: 1 as const })),
  });
  await client.waitFor("suback");
  const suback = client.received.find((packet) => packet.cmd === "suback");
  assert.deepEqual(suback?.cmd === "suback" && suback.granted, [1, 128, 128, 128, 128, 128, 128]);
  client.close();
});

test("nothing that a meter publishes is retained or delivered to anybody", async () => {
  await addMeters(backend.pool, "loud");
  const client = await connected("loud");
  const topic = "mt/v1/mea/bangkok/loud/cmd";
  client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic, qos: 1 }] });
  await client.waitFor("suback");
  client.send(publishPacket(topic, "{}", 2, { retain: true }));
  client.send(publishPacket(topic, "{}", 3, { retain: true, qos: 2 }));
  await client.waitFor("pubrec");
  client.send({ cmd: "subscribe", messageId: 4, subscriptions: [{ topic, qos: 0 }] });
  await client.waitFor("suback", 2);
  client.send({ cmd: "pingreq" });
  await client.waitFor("pingresp");
  assert.equal(client.count("publish"), 0);
  assert.equal(
    (await readDeadLetters(worker.eventLog)).filter(({ key }) => key === "loud").length,
    2,
    "both are kept as dead letters",
  );
  client.close();
});

test("a second connection with the same credentials closes the first, on the same worker or on another", async () => {
  await addMeters(backend.pool, "mover");
  let current = await connected("mover");
  for (let move = 0; move < 12; move += 1) {
    const next = await connected("mover");
    await current.waitForClose();
    current = next;
  }
  const workers = await Promise.all([
    worker.metric("ingest_connects_accepted_total"),
    other.metric("ingest_connects_accepted_total"),
  ]);
  assert.ok(
    workers.every((count) => count > 0),
    "the kernel gave connections to both workers",
  );
  current.send(publishPacket(rdTopic("mover"), reading(1), 1));
  await current.waitFor("puback");
  current.close();
});

test("a client that cannot authenticate as a meter does not evict it, nor loosen its QoS 2 state", async () => {
  await addMeters(backend.pool, "steady");
  const client = await connected("steady");
  client.send(publishPacket(rdTopic("steady"), reading(1), 7, { qos: 2 }));
  await client.waitFor("pubrec");
  const attempts: Parameters<RawClient["connect"]>[] = [
    ["steady", "wrong"],
    ["known", SECRET, { clientId: "steady" }],
  ];
  for (const attempt of attempts) {
    const attacker = new RawClient(worker.port);
    assert.notEqual(await attacker.connect(...attempt), 0);
    await attacker.waitForClose();
  }
  client.send(publishPacket(rdTopic("steady"), reading(1), 7, { qos: 2, dup: true }));
  await client.waitFor("pubrec", 2);
  assert.equal((await readRegion(worker.eventLog)).filter(({ key }) => key === "steady").length, 1);
  client.close();
});

test("a take-over that a worker did not hear of is found when its listener is back", async () => {
  await addMeters(backend.pool, "missed");
  const client = await connected("missed");
  await backend.pool.query(
    "update mqtt_session set generation = generation + 1, worker = 'worker-9' where client_id = 'missed'",
  );
  await backend.pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listen mqtt_session' and datname = current_database()",
  );
  await client.waitForClose();
});

test("a meter that is retired loses its connection", async () => {
  await addMeters(backend.pool, "leaving");
  const client = await connected("leaving");
  await backend.pool.query("update meter set retired_at = 1 where meter_id = 'leaving'");
  await backend.pool.query("select pg_notify($1, 'leaving')", [REGISTRY_CHANNEL]);
  await client.waitForClose();
  const again = new RawClient(worker.port);
  assert.equal(await again.connect("leaving", SECRET), 5);
});

test("a meter added after a failed attempt may connect as soon as it is announced", async () => {
  const early = new RawClient(worker.port);
  assert.equal(await early.connect("newborn", SECRET), 4);
  await addMeters(backend.pool, "newborn");
  await backend.pool.query("select pg_notify($1, 'newborn')", [REGISTRY_CHANNEL]);
  await until("the meter may connect", async () => {
    const client = new RawClient(worker.port);
    const code = await client.connect("newborn", SECRET);
    client.close();
    return code === 0;
  });
});
