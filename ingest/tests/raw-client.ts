import { connect, type Socket } from "node:net";
import mqtt, { type IConnectPacket, type Packet } from "mqtt-packet";
import { until } from "../../tests/support/until.ts";

/** An MQTT client without manners: it sends what the test says and remembers what comes back. */
export class RawClient {
  readonly received: Packet[] = [];
  readonly socket: Socket;
  isClosed = false;
  /** Called for each packet that arrives. */
  onPacket: (packet: Packet) => void = () => {};

  constructor(port: number) {
    const parser = mqtt.parser({ protocolVersion: 4 });
    parser.on("packet", (packet) => {
      this.received.push(packet);
      this.onPacket(packet);
    });
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true })
      .on("data", (bytes) => parser.parse(bytes))
      .on("error", () => {})
      .on("close", () => (this.isClosed = true));
  }

  send(...packets: readonly Packet[]): void {
    this.socket.write(Buffer.concat(packets.map((packet) => mqtt.generate(packet))));
  }

  hello(meterId: string, secret: string): void {
    this.send(connectPacket(meterId, secret));
  }

  /** Resolves when the connection is closed, whenever that is. */
  async ended(): Promise<void> {
    if (!this.isClosed) await new Promise((done) => this.socket.once("close", done));
  }

  /** Connects as a meter and returns the CONNACK code. */
  async connect(meterId: string, secret: string, more: Partial<IConnectPacket> = {}): Promise<number> {
    this.send(connectPacket(meterId, secret, more));
    await until("CONNACK arrives", () => this.count("connack") > 0 || this.isClosed);
    const connack = this.received.find((packet) => packet.cmd === "connack");
    return connack?.cmd === "connack" ? (connack.returnCode ?? -1) : -1;
  }

  count(cmd: Packet["cmd"]): number {
    return this.received.filter((packet) => packet.cmd === cmd).length;
  }

  /** Packet identifiers of the packets of that kind, in order of arrival. */
  identifiers(cmd: Packet["cmd"]): (number | undefined)[] {
    return this.received.filter((packet) => packet.cmd === cmd).map((packet) => packet.messageId);
  }

  async waitFor(cmd: Packet["cmd"], count = 1, boundMs?: number): Promise<void> {
    await until(`${count} ${cmd}`, () => this.count(cmd) >= count || this.isClosed, boundMs);
    if (this.count(cmd) < count) throw new Error(`connection closed before ${count} ${cmd}`);
  }

  async waitForClose(boundMs?: number): Promise<void> {
    await until("the connection is closed", () => this.isClosed, boundMs);
  }

  close(): void {
    this.socket.destroy();
  }
}

export function connectPacket(
  meterId: string,
  secret: string,
  more: Partial<IConnectPacket> = {},
): IConnectPacket {
  return {
    cmd: "connect",
    protocolId: "MQTT",
    protocolVersion: 4,
    clean: true,
    keepalive: 60,
    clientId: meterId,
    username: meterId,
    password: Buffer.from(secret),
    ...more,
  };
}

export function publishPacket(
  topic: string,
  payload: string | Buffer,
  messageId: number,
  more: { qos?: 0 | 1 | 2; dup?: boolean; retain?: boolean } = {},
): Packet {
  const { qos = 1, dup = false, retain = false } = more;
  return { cmd: "publish", topic, payload, qos, dup, retain, ...(qos === 0 ? {} : { messageId }) };
}
