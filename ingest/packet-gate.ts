import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { GridrootError } from "../service/errors.ts";
import { ByteQueue } from "./byte-queue.ts";
import type { InFlightBudget } from "./in-flight-budget.ts";
import {
  isFromClient,
  isPublishWhole,
  packetBytes,
  PACKET_TYPE,
  packetType,
  remainingBytes,
} from "./packet-format.ts";

/** Why a connection ended. */
export const CLOSE_REASONS = [
  "disconnected",
  "network-error",
  "connect-timeout",
  "not-connect",
  "packet-too-large",
  "malformed",
  "forbidden-topic",
  "slow-packet",
  "keepalive",
  "unread-acknowledgements",
  "refused",
  "taken-over",
  "retired",
  "too-many-unreleased",
  "log-unavailable",
  "stopping",
] as const;
export type CloseReason = (typeof CLOSE_REASONS)[number];

export interface PacketGateLimits {
  readonly connectTimeoutMs: number;
  readonly packetTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly maxKeepaliveS: number;
  readonly maxConnectPacketBytes: number;
  readonly maxPacketBytes: number;
  readonly maxInFlightPerClient: number;
}

export interface PacketGateEvents {
  /** The first packet is whole, is a CONNECT and can be read after this call. */
  connectArrived(gate: PacketGate): void;
  closed(gate: PacketGate, reason: CloseReason): void;
}

/** `connect`: until the first packet is whole. `answer`: until CONNACK is written. Then `open`. */
type Stage = "connect" | "answer" | "open" | "draining";

/** How long a closing socket may take to send what was written. */
const LINGER_MS = 2000;

/** Monotonic, for time limits; the pipeline's clock may stand still or be set. */
function elapsedMs(): number {
  return performance.now();
}

/**
 * A connection as the broker sees it: only whole packets that are allowed and for which there is room pass. What is
 * too large is refused by its length field, before it is buffered; where there is no room the socket is not read, so
 * that TCP slows the client down.
 *
 * A publish is in flight from its passing until `settled`. `check` must be called now and then: it enforces the time
 * limits, all of which leave out the time in which the gate itself does not read.
 */
export class PacketGate extends Duplex {
  readonly #socket: Socket;
  readonly #limits: PacketGateLimits;
  readonly #budget: InFlightBudget;
  readonly #events: PacketGateEvents;
  readonly #queue = new ByteQueue();
  readonly #wake = (): void => this.#forward();
  #stage: Stage = "connect";
  #reason: CloseReason | undefined;
  #consumerReads = true;
  #noRoom = false;
  #input: "open" | "ended" | "closed" = "open";
  #inFlight = 0;
  #unreceivedPackets = 0;
  #unreceivedBytes = 0;
  #keepaliveMs: number;
  #acceptedMs = elapsedMs();
  #heardMs = this.#acceptedMs;
  #packetBeganMs: number | undefined;
  #unreadSinceMs: number | undefined;
  #socketDrained: (() => void) | undefined;

  constructor(
    limits: PacketGateLimits,
    dependencies: { socket: Socket; budget: InFlightBudget; events: PacketGateEvents },
  ) {
    super({ allowHalfOpen: true, writableHighWaterMark: 16_384 });
    this.#limits = limits;
    this.#socket = dependencies.socket;
    this.#budget = dependencies.budget;
    this.#events = dependencies.events;
    this.#keepaliveMs = limits.maxKeepaliveS * 1500;
    this.on("error", () => {});
    this.#socket
      .setNoDelay(true)
      .on("data", (chunk: Buffer) => this.#receive(chunk))
      .on("end", () => this.#endOfInput())
      .on("drain", () => this.#drained())
      .on("error", () => this.close("network-error"))
      .on("close", () => this.destroy());
  }

  /** Publishes handed on and not settled. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** CONNACK was written: reads on. `keepaliveS` is the client's, 0 for none [MQTT-3.1.2-24]. */
  open(keepaliveS: number): void {
    if (this.#stage !== "answer") return;
    this.#stage = "open";
    const boundedS = Math.min(
      keepaliveS === 0 ? Number.POSITIVE_INFINITY : keepaliveS,
      this.#limits.maxKeepaliveS,
    );
    this.#keepaliveMs = boundedS * 1500;
    this.#heardMs = elapsedMs();
    this.#packetBeganMs = undefined;
    this.#forward();
  }

  /** The broker took up a publish of that remaining length. */
  received(bytes: number): void {
    this.#unreceivedPackets -= 1;
    this.#unreceivedBytes -= bytes;
  }

  /** A publish that was `received` is acknowledged or given up; its room is free. */
  settled(bytes: number): void {
    this.#inFlight -= 1;
    this.#budget.giveBack(1, bytes);
    if (this.#noRoom) this.#forward();
  }

  /** Hands on nothing more; what was written still goes out. */
  stopReading(): void {
    if (this.#stage === "open") this.#stage = "draining";
    this.#readOrPause();
  }

  /** Closes for a reason of ours. The first reason counts. */
  close(reason: CloseReason): void {
    this.#reason ??= reason;
    this.destroy();
  }

  /** The reason to count when the broker closes the connection next, without closing it now. */
  expectClose(reason: CloseReason): void {
    this.#reason ??= reason;
  }

  /** Enforces the time limits. */
  check(): void {
    if (this.destroyed) return;
    const nowMs = elapsedMs();
    const { connectTimeoutMs, packetTimeoutMs, drainTimeoutMs } = this.#limits;
    if (this.#stage === "connect" || this.#stage === "answer") {
      if (nowMs - this.#acceptedMs > connectTimeoutMs) this.close("connect-timeout");
      return;
    }
    if (this.#unreadSinceMs !== undefined && nowMs - this.#unreadSinceMs > drainTimeoutMs) {
      return this.close("unread-acknowledgements");
    }
    if (!this.#mayRead() || this.#inFlight > 0) {
      this.#heardMs = nowMs;
      if (this.#packetBeganMs !== undefined) this.#packetBeganMs = nowMs;
      return;
    }
    if (this.#packetBeganMs !== undefined && nowMs - this.#packetBeganMs > packetTimeoutMs) {
      return this.close("slow-packet");
    }
    if (nowMs - this.#heardMs > this.#keepaliveMs) this.close("keepalive");
  }

  override _read(): void {
    this.#consumerReads = true;
    this.#forward();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#send(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    // The acknowledgements of a whole group commit leave in one system call.
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#reason ??= error === null ? "disconnected" : closeReasonOf(error);
    this.#budget.forget(this.#wake);
    this.#budget.giveBack(this.#unreceivedPackets, this.#unreceivedBytes);
    this.#inFlight -= this.#unreceivedPackets;
    this.#unreceivedPackets = 0;
    this.#unreceivedBytes = 0;
    this.#queue.clear();
    this.#closeSocket();
    this.#events.closed(this, this.#reason);
    done(null);
  }

  #closeSocket(): void {
    this.#socket.removeAllListeners("data").resume();
    if (this.#unreadSinceMs !== undefined || this.#socket.destroyed) {
      this.#socket.destroy();
      return;
    }
    this.#socket.destroySoon();
    const force = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    this.#socket.once("close", () => clearTimeout(force));
  }

  #receive(chunk: Buffer): void {
    this.#heardMs = elapsedMs();
    this.#queue.append(chunk);
    this.#forward();
  }

  #endOfInput(): void {
    this.#input = "ended";
    if (this.#stage === "connect") this.destroy();
    else this.#forward();
  }

  /** Hands on as many whole packets as are allowed now, in one piece. */
  #forward(): void {
    if (this.destroyed) return;
    this.#noRoom = false;
    const count = this.#stage === "connect" ? this.#passConnect() : this.#passPackets();
    if (this.destroyed) return;
    if (count > 0) {
      const bytes = this.#queue.take(count);
      if (this.#stage === "connect") {
        this.#stage = "answer";
        this.#events.connectArrived(this);
      }
      this.#consumerReads = this.push(bytes);
    }
    this.#timePacket(count > 0);
    if (this.#input === "ended" && this.#stage === "open" && !this.#noRoom) {
      this.#input = "closed";
      this.push(null);
    }
    this.#readOrPause();
  }

  /** What is left over is a packet that has begun, or waits for room. */
  #timePacket(isNext: boolean): void {
    if (this.#queue.length === 0) this.#packetBeganMs = undefined;
    else if (isNext || this.#packetBeganMs === undefined) this.#packetBeganMs = elapsedMs();
  }

  #passConnect(): number {
    const bytes = this.#queue.bytes;
    if (bytes.length === 0) return 0;
    if (packetType(bytes, 0) !== PACKET_TYPE.connect) this.close("not-connect");
    const length = this.#lengthAt(bytes, 0, this.#limits.maxConnectPacketBytes);
    return length <= bytes.length ? length : 0;
  }

  #passPackets(): number {
    if (this.#stage !== "open" || this.#unreadSinceMs !== undefined) return 0;
    const bytes = this.#queue.bytes;
    let at = 0;
    while (at < bytes.length) {
      if (!isFromClient(packetType(bytes, at))) this.close("malformed");
      const length = this.#lengthAt(bytes, at, this.#limits.maxPacketBytes);
      if (length === 0 || at + length > bytes.length) break;
      if (packetType(bytes, at) === PACKET_TYPE.publish && !this.#takeRoom(bytes, at, length)) break;
      at += length;
    }
    return at;
  }

  /** The packet's length; 0 where it is unknown yet or the connection was closed for it. */
  #lengthAt(bytes: Buffer, at: number, maxBytes: number): number {
    if (this.destroyed) return 0;
    const length = packetBytes(bytes, at);
    if (length < 0) this.close("malformed");
    else if (length > maxBytes) this.close("packet-too-large");
    else return length;
    return 0;
  }

  #takeRoom(bytes: Buffer, at: number, length: number): boolean {
    if (!isPublishWhole(bytes, at, length)) {
      this.close("malformed");
      return false;
    }
    const remaining = remainingBytes(bytes, at, length);
    if (this.#inFlight >= this.#limits.maxInFlightPerClient) {
      this.#noRoom = true;
    } else if (!this.#budget.tryTake(remaining)) {
      this.#noRoom = true;
      this.#budget.wait(this.#wake);
    } else {
      this.#inFlight += 1;
      this.#unreceivedPackets += 1;
      this.#unreceivedBytes += remaining;
    }
    return !this.#noRoom;
  }

  #mayRead(): boolean {
    if (this.#noRoom || !this.#consumerReads || this.#input !== "open") return false;
    return this.#stage === "connect" || (this.#stage === "open" && this.#unreadSinceMs === undefined);
  }

  #readOrPause(): void {
    if (this.destroyed) return;
    if (this.#mayRead()) this.#socket.resume();
    else this.#socket.pause();
  }

  #send(bytes: Buffer, done: () => void): void {
    if (this.#socket.write(bytes)) return done();
    // Who does not read what we write is not read either.
    this.#unreadSinceMs = elapsedMs();
    this.#socketDrained = done;
    this.#socket.pause();
  }

  #drained(): void {
    this.#unreadSinceMs = undefined;
    const done = this.#socketDrained;
    this.#socketDrained = undefined;
    done?.();
    this.#forward();
  }
}

/** What an error of the broker or of its parser says about the reason. */
function closeReasonOf(error: Error): CloseReason {
  if (error instanceof GridrootError && (CLOSE_REASONS as readonly string[]).includes(error.code)) {
    return error.code as CloseReason;
  }
  return /not allowed in|empty topic|too many levels|only allowed in/.test(error.message)
    ? "forbidden-topic"
    : "malformed";
}
