import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, test } from "node:test";
import mqtt from "mqtt-packet";
import { until } from "../tests/support/until.ts";
import { InFlightBudget } from "./in-flight-budget.ts";
import { type CloseReason, PacketGate, type PacketGateLimits } from "./packet-gate.ts";
import { connectPacket, publishPacket } from "./tests/raw-client.ts";

const LIMITS: PacketGateLimits = {
  connectTimeoutMs: 1000,
  packetTimeoutMs: 1000,
  drainTimeoutMs: 200,
  maxKeepaliveS: 60,
  maxConnectPacketBytes: 1024,
  maxPacketBytes: 65_536,
  maxInFlightPerClient: 10,
};

const server = createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const sockets: Socket[] = [];
after(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** A gate over a real connection whose CONNECT was accepted, with the broker's part in the test's hands. */
async function openGate(maxPackets = 1000) {
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  sockets.push(client, socket);
  const budget = new InFlightBudget({ maxPackets, maxBytes: 1_000_000 });
  const reasons: CloseReason[] = [];
  const gate = new PacketGate(LIMITS, {
    socket,
    budget,
    events: { connectArrived: () => {}, closed: (_gate, reason) => reasons.push(reason) },
  });
  client.write(mqtt.generate(connectPacket("m1", "secret")));
  await once(gate, "readable");
  gate.read();
  gate.write(mqtt.generate({ cmd: "connack", returnCode: 0, sessionPresent: false }));
  gate.open(60);
  return { gate, client, socket, budget, reasons };
}

function publish(id: number, payload: string | Buffer = "x"): Buffer {
  return mqtt.generate(publishPacket("t", payload, id));
}

/** The remaining length of `publish(id)`. */
const REMAINING = publish(1).length - 2;

test("a client that never reads its acknowledgements is not read any more, then closed", async () => {
  const { gate, client, socket, reasons } = await openGate();
  client.pause();
  const acknowledgements = Buffer.alloc(65_536);
  // The kernel takes some megabytes for the client before anybody can notice.
  while (!socket.writableNeedDrain) {
    gate.write(acknowledgements);
    await new Promise((done) => setImmediate(done));
  }
  const readBefore = socket.bytesRead;
  client.write(Buffer.alloc(1_000_000, publish(1)));
  await until("the limit has passed", () => {
    gate.check();
    return gate.destroyed;
  });
  assert.deepEqual(reasons, ["unread-acknowledgements"]);
  // One chunk may have been on its way when reading stopped.
  assert.ok(socket.bytesRead - readBefore <= 131_072);
});

test("a client that reads late gets all of it", async () => {
  const { gate, client, reasons } = await openGate();
  client.pause();
  let received = 0;
  client.on("data", (bytes) => (received += bytes.length));
  client.pause();
  const total = 8 * 1024 * 1024;
  for (let sent = 0; sent < total; sent += 65_536) gate.write(Buffer.alloc(65_536));
  client.resume();
  await until("all has arrived", () => received >= total);
  gate.check();
  assert.deepEqual(reasons, []);
});

test("no more publishes pass than may be in flight, and the socket waits for the others", async () => {
  const { gate, client, socket } = await openGate();
  const passed: Buffer[] = [];
  gate.on("data", (bytes: Buffer) => passed.push(bytes));
  const sent = Buffer.concat(
    Array.from({ length: 1000 }, (_, index) => publish(index + 1, Buffer.alloc(5000))),
  );
  client.write(sent);
  await until("the limit is reached", () => gate.inFlight === 10);
  const held = socket.bytesRead;
  assert.ok(held < sent.length / 5, "TCP holds the client back");
  assert.equal(Buffer.concat(passed).length, 10 * publish(1, Buffer.alloc(5000)).length);
  let settled = 0;
  await until("all have passed", () => {
    while (gate.inFlight > 0) {
      gate.received(5005);
      gate.settled(5005);
      settled += 1;
    }
    return settled === 1000;
  });
  assert.deepEqual(Buffer.concat(passed), sent);
});

test("what a closed connection had not handed over is given back to the others", async () => {
  const { gate, client, budget } = await openGate(3);
  client.write(Buffer.concat([publish(1), publish(2), publish(3), publish(4)]));
  await until("three are in flight", () => budget.packets === 3);
  gate.received(REMAINING);
  gate.destroy();
  assert.equal(budget.packets, 1, "the one that the broker has taken up stays until it is settled");
  gate.settled(REMAINING);
  assert.deepEqual([budget.packets, budget.bytes], [0, 0]);
});

test("silence is not counted while a publish is held", async () => {
  const { gate, client } = await openGate();
  gate.on("data", () => {});
  client.write(publish(1));
  await until("it is in flight", () => gate.inFlight === 1);
  const heldUntilMs = performance.now() + 30;
  await until("some time has passed", () => {
    gate.check();
    return performance.now() > heldUntilMs;
  });
  assert.equal(gate.destroyed, false);
});
