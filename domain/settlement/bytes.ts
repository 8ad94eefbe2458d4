import { SettlementError } from "./errors.ts";
import { toHex, writeHex } from "./hex.ts";
import type { Hex } from "./settlement.ts";

const U32_MAX = 2 ** 32 - 1;
const U64_MAX = 2n ** 64n - 1n;

/** Appends big-endian fields to a growing buffer. Throws `evidence-malformed` for what a field cannot hold. */
export class ByteWriter {
  #buffer = new Uint8Array(4096);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

  u8(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 255) throw malformed(`${value} is no u8`);
    const offset = this.#grow(1);
    this.#view.setUint8(offset, value);
  }

  u32(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > U32_MAX) throw malformed(`${value} is no u32`);
    const offset = this.#grow(4);
    this.#view.setUint32(offset, value);
  }

  /** A `number` has to be a safe integer. */
  u64(value: bigint | number): void {
    if (typeof value === "number" && !Number.isSafeInteger(value)) throw malformed(`${value} is not exact`);
    const exact = BigInt(value);
    if (exact < 0n || exact > U64_MAX) throw malformed(`${value} is no u64`);
    const offset = this.#grow(8);
    this.#view.setBigUint64(offset, exact);
  }

  hex(value: Hex, length: number): void {
    const offset = this.#grow(length);
    writeHex(this.#buffer, offset, value, length);
  }

  /** ASCII after its length in one byte. */
  name(value: string): void {
    this.u8(value.length);
    const offset = this.#grow(value.length);
    for (let i = 0; i < value.length; i += 1) this.#buffer[offset + i] = value.charCodeAt(i);
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  /** Makes room and moves on; may replace the view, so call it before the view is named. */
  #grow(by: number): number {
    const offset = this.#length;
    this.#length += by;
    if (this.#length > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#buffer.length));
      larger.set(this.#buffer);
      this.#buffer = larger;
      this.#view = new DataView(larger.buffer);
    }
    return offset;
  }
}

/** Reads what `ByteWriter` wrote. Throws `evidence-malformed` where the bytes end early or go on after the end. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  /** A u64 that a `number` holds exactly. */
  safeU64(): number {
    const value = Number(this.u64());
    if (!Number.isSafeInteger(value)) throw malformed("a number beyond 2^53");
    return value;
  }

  hex(length: number): Hex {
    const offset = this.#take(length);
    return toHex(this.#bytes.subarray(offset, offset + length));
  }

  name(): string {
    const length = this.u8();
    const offset = this.#take(length);
    let text = "";
    for (let i = 0; i < length; i += 1) text += String.fromCharCode(this.#bytes[offset + i]!);
    return text;
  }

  /** Items after their number. A number larger than the bytes left is refused before anything is read. */
  list<T>(item: () => T): T[] {
    const count = this.u32();
    if (count > this.#bytes.length - this.#offset) throw malformed("it ends early");
    return Array.from({ length: count }, item);
  }

  end(): void {
    if (this.#offset !== this.#bytes.length) throw malformed("bytes after its end");
  }

  #take(length: number): number {
    const offset = this.#offset;
    if (offset + length > this.#bytes.length) throw malformed("it ends early");
    this.#offset += length;
    return offset;
  }
}

function malformed(detail: string): SettlementError {
  return new SettlementError("evidence-malformed", `evidence file: ${detail}`);
}
