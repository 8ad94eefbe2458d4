import { once } from "node:events";
import { connect } from "node:net";

const METADATA = 3;
const VERSION = 5;
const WITHIN_MS = 3_000;

/**
 * Ids of the brokers that the cluster counts in, as the broker on that port says. One request on a connection of its
 * own; a client library would retry, log and keep timers.
 *
 * Source: Kafka protocol, Metadata request and response version 5.
 */
export async function brokersSeenBy(port: number): Promise<number[]> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.setTimeout(WITHIN_MS, () => socket.destroy(new Error(`no answer in ${WITHIN_MS} ms`)));
  try {
    await once(socket, "connect");
    socket.write(request());
    let received = Buffer.alloc(0);
    for await (const chunk of socket) {
      received = Buffer.concat([received, chunk as Buffer]);
      if (received.length >= 4 && received.length >= 4 + received.readInt32BE(0)) return brokersIn(received);
    }
    throw new Error("the broker closed the connection");
  } finally {
    socket.destroy();
  }
}

/** Size, key, version, correlation (0), client id (none); no topics, and none to be created. */
function request(): Buffer {
  const body = Buffer.alloc(15);
  body.writeInt16BE(METADATA, 0);
  body.writeInt16BE(VERSION, 2);
  body.writeInt32BE(0, 4);
  body.writeInt16BE(-1, 8);
  body.writeInt32BE(0, 10);
  body.writeInt8(0, 14);
  const size = Buffer.alloc(4);
  size.writeInt32BE(body.length);
  return Buffer.concat([size, body]);
}

/** Size, correlation, throttle time, then brokers: node id, host, port, rack or none. */
function brokersIn(response: Buffer): number[] {
  const count = response.readInt32BE(12);
  const ids: number[] = [];
  for (let index = 0, at = 16; index < count; index++) {
    ids.push(response.readInt32BE(at));
    const rackAt = at + 6 + response.readInt16BE(at + 4) + 4;
    at = rackAt + 2 + Math.max(0, response.readInt16BE(rackAt));
  }
  return ids;
}
