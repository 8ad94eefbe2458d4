import type { Hex } from "../settlement/settlement.ts";
import type { Registers } from "./registry-records.ts";
import type { Point, RecentReading, Segment, ServicePoint, WaitingReading } from "./service-point.ts";
import { type Wh, wh } from "./units.ts";

/** The first byte of a packed state. */
export const PACKED_VERSION = 1;

/**
 * A service point's state as it lies in the ledger. Big-endian, no padding; energies are u64 Wh, instants and seqs
 * u64, a meter is its position in the list of meter ids.
 *
 *     u8        version, 1
 *     20        account
 *     u8        number of meter ids, and for each:
 *       u8 ASCII  meter id
 *     u8        number of segments, and for each, in order:
 *       u8 u32 u64  meter, epoch, openedAt
 *       u64 u64     initial import and export
 *       u64 u64 u32 base credit, modulus, maxPowerW
 *       u8          1 if closed, and then: u64 u64 u64  at, final import and export
 *     u16       number of points, and for each, by t:
 *       u8 u64 u64  segment's position, t, seq
 *       u64 u64     unwrapped import and export
 *     u8        number of recent readings, and for each, oldest first:
 *       u8 u32 u64  meter, epoch, seq
 *       u32 u32     content hash
 *     u8        number of waiting readings, and for each, oldest first:
 *       u8 u32 u64 u64  meter, epoch, seq, t
 *       u64 u64     import and export as shown
 *       u64 u16     log offset, position in the record's array
 */
export function packServicePoint(state: ServicePoint): Uint8Array {
  const out = new Packer();
  const meters = meterIds(state);
  const meterIndex = new Map(meters.map((meterId, index) => [meterId, index]));
  out.u8(PACKED_VERSION);
  for (let i = 2; i < 42; i += 2) out.u8(Number.parseInt(state.account.slice(i, i + 2), 16));
  out.u8(meters.length);
  for (const meterId of meters) out.text(meterId);
  out.u8(state.segments.length);
  for (const segment of state.segments) packSegment(out, segment, meterIndex.get(segment.meterId)!);
  out.u16(state.points.length);
  for (const point of state.points) {
    out.u8(state.segments.indexOf(point.segment));
    out.count(point.t);
    out.count(point.seq);
    out.registers(point);
  }
  out.u8(state.recent.length);
  for (const { meterId, epoch, seq, contentHash } of state.recent) {
    out.u8(meterIndex.get(meterId)!);
    out.u32(epoch);
    out.count(seq);
    out.u32(contentHash[0]);
    out.u32(contentHash[1]);
  }
  out.u8(state.waiting.length);
  for (const reading of state.waiting) {
    out.u8(meterIndex.get(reading.meterId)!);
    out.u32(reading.epoch);
    out.count(reading.seq);
    out.count(reading.t);
    out.registers(reading);
    out.u64(reading.place.offset);
    out.u16(reading.place.index);
  }
  return out.bytes();
}

function packSegment(out: Packer, segment: Segment, meter: number): void {
  out.u8(meter);
  out.u32(segment.epoch);
  out.count(segment.openedAt);
  out.registers(segment.initial);
  out.u64(segment.baseWh);
  out.u64(segment.modulusWh);
  out.u32(segment.maxPowerW);
  out.u8(segment.closing === undefined ? 0 : 1);
  if (segment.closing === undefined) return;
  out.count(segment.closing.at);
  out.registers(segment.closing.final);
}

function meterIds({ segments, recent, waiting }: ServicePoint): readonly string[] {
  return [...new Set([...segments, ...recent, ...waiting].map(({ meterId }) => meterId))];
}

/**
 * Reads what `packServicePoint` wrote. Throws `RangeError` for another version or bytes that end early or go on
 * after their end: the ledger was written by another program.
 */
export function unpackServicePoint(servicePoint: string, bytes: Uint8Array): ServicePoint {
  const input = new Unpacker(bytes);
  const version = input.u8();
  if (version !== PACKED_VERSION) throw new RangeError(`packed state of version ${version}`);
  let account: Hex = "0x";
  for (let i = 0; i < 20; i += 1) account += input.u8().toString(16).padStart(2, "0");
  const meters = input.list(input.u8(), () => input.text());
  const segments = input.list(input.u8(), () => unpackSegment(input, meters));
  const points = input.list(input.u16(), (): Point => {
    const segment = segments[input.u8()]!;
    return { segment, t: input.count(), seq: input.count(), ...input.registers() };
  });
  const recent = input.list(input.u8(), (): RecentReading => ({
    meterId: meters[input.u8()]!,
    epoch: input.u32(),
    seq: input.count(),
    contentHash: [input.u32(), input.u32()],
  }));
  const waiting = input.list(input.u8(), (): WaitingReading => ({
    meterId: meters[input.u8()]!,
    epoch: input.u32(),
    seq: input.count(),
    t: input.count(),
    ...input.registers(),
    place: { offset: input.u64(), index: input.u16() },
  }));
  input.end();
  return { servicePoint, account, segments, points, recent, waiting };
}

function unpackSegment(input: Unpacker, meters: readonly string[]): Segment {
  return {
    meterId: meters[input.u8()]!,
    epoch: input.u32(),
    openedAt: input.count(),
    initial: input.registers(),
    baseWh: wh(input.u64()),
    modulusWh: wh(input.u64()),
    maxPowerW: input.u32(),
    closing: input.u8() === 0 ? undefined : { at: input.count(), final: input.registers() },
  };
}

/** One buffer serves all calls: packing is synchronous, and a flush packs many thousand states at a time. */
let scratch = new DataView(new ArrayBuffer(8192));

class Packer {
  #length = 0;

  u8(value: number): void {
    const at = this.#grow(1);
    scratch.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#grow(2);
    scratch.setUint16(at, value);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    scratch.setUint32(at, value);
  }

  u64(value: bigint): void {
    const at = this.#grow(8);
    scratch.setBigUint64(at, value);
  }

  /** A non-negative safe integer as u64. */
  count(value: number): void {
    this.u32(Math.floor(value / 2 ** 32));
    this.u32(value >>> 0);
  }

  registers({ importWh, exportWh }: Registers): void {
    this.u64(importWh);
    this.u64(exportWh);
  }

  text(value: string): void {
    this.u8(value.length);
    for (let i = 0; i < value.length; i += 1) this.u8(value.charCodeAt(i));
  }

  bytes(): Uint8Array {
    return new Uint8Array(scratch.buffer).slice(0, this.#length);
  }

  /** Makes room and moves on; may replace the scratch buffer, so call it before that is named. */
  #grow(by: number): number {
    const at = this.#length;
    this.#length += by;
    if (this.#length > scratch.byteLength) {
      const larger = new Uint8Array(2 * scratch.byteLength);
      larger.set(new Uint8Array(scratch.buffer));
      scratch = new DataView(larger.buffer);
    }
    return at;
  }
}

class Unpacker {
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  count(): number {
    return this.u32() * 2 ** 32 + this.u32();
  }

  registers(): Registers {
    const importWh: Wh = wh(this.u64());
    return { importWh, exportWh: wh(this.u64()) };
  }

  text(): string {
    const codes = this.list(this.u8(), () => this.u8());
    return String.fromCharCode(...codes);
  }

  list<T>(length: number, item: () => T): T[] {
    return Array.from({ length }, item);
  }

  end(): void {
    if (this.#at !== this.#view.byteLength) throw new RangeError("packed state goes on after its end");
  }

  #take(by: number): number {
    const at = this.#at;
    this.#at += by;
    return at;
  }
}
