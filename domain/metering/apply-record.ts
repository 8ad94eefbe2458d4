import type { Hex } from "../settlement/settlement.ts";
import { fitRegisters, type ReleasedReading, releaseWaiting } from "./apply-reading.ts";
import type {
  CommissionRecord,
  Device,
  Registers,
  RegistryRecord,
  ResetRecord,
  RetireRecord,
  SwapRecord,
} from "./registry-records.ts";
import {
  creditWh,
  MAX_SEGMENTS,
  placePoint,
  type Point,
  RECORD_SEQ,
  type Segment,
  type ServicePoint,
} from "./service-point.ts";
import { ZERO_WH } from "./units.ts";

/** Why a registry record takes no effect. */
export type RefusalReason =
  | "takes-effect-in-the-future"
  | "wrong-region"
  | "wrong-partition"
  | "meter-exists"
  | "service-point-exists"
  | "service-point-unknown"
  | "service-point-retired"
  | "meter-not-in-service"
  | "epoch-not-open"
  | "closes-before-it-opens"
  | "readings-after-closing"
  | "register-decrease"
  | "above-physical-cap"
  | "register-beyond-modulus";

/** What became of a registry record. */
export type RecordOutcome =
  | {
      readonly kind: "applied";
      readonly state: ServicePoint;
      /** The point at which an epoch closed; none at a commissioning. */
      readonly closing: Point | undefined;
      /** Readings that had waited for this record. */
      readonly released: readonly ReleasedReading[];
    }
  | { readonly kind: "refused"; readonly reason: RefusalReason };

/**
 * Applies a registry record to its service point, `undefined` where there is none yet. A refused record changes
 * nothing. Epochs count per meter: a new meter starts at epoch 0 (docs/decisions/0002).
 */
export function applyRecord(
  state: ServicePoint | undefined,
  record: RegistryRecord,
  lengthS: number,
): RecordOutcome {
  if (record.type === "commission") {
    return state === undefined ? commission(record) : refused("service-point-exists");
  }
  if (state === undefined) return refused("service-point-unknown");
  const open = state.segments.at(-1)!;
  if (open.closing !== undefined) return refused("service-point-retired");
  if (open.meterId !== record.meterId) return refused("meter-not-in-service");
  if (record.type === "reset" && record.epoch !== open.epoch) return refused("epoch-not-open");
  if (record.type === "swap" && state.segments.some((known) => known.meterId === record.device.meterId)) {
    return refused("meter-exists");
  }
  if (record.type === "reset" && !below(record.initial, open)) return refused("register-beyond-modulus");
  return close(state, open, record, lengthS);
}

function commission(record: CommissionRecord): RecordOutcome {
  const state: ServicePoint = {
    servicePoint: record.servicePoint,
    account: record.account as Hex,
    segments: [deviceSegment(record.device, record.at)],
    points: [],
    recent: [],
    waiting: [],
  };
  return { kind: "applied", state, closing: undefined, released: [] };
}

function close(
  state: ServicePoint,
  open: Segment,
  record: SwapRecord | ResetRecord | RetireRecord,
  lengthS: number,
): RecordOutcome {
  const { at } = record;
  if (at < open.openedAt) return refused("closes-before-it-opens");
  if (state.points.some((point) => point.segment === open && point.t > at)) {
    return refused("readings-after-closing");
  }
  const final = fitRegisters(state, open, { ...record.final, t: at, seq: RECORD_SEQ });
  if (typeof final === "string") return refused(final);
  const closing: Point = { segment: open, t: at, seq: RECORD_SEQ, ...final };
  placePoint(state, closing, lengthS);
  open.closing = { at, final };
  const baseWh = creditWh(closing);
  if (record.type === "swap") state.segments.push({ ...deviceSegment(record.device, at), baseWh });
  if (record.type === "reset") {
    const { initial } = record;
    state.segments.push({
      ...open,
      epoch: open.epoch + 1,
      openedAt: at,
      initial,
      baseWh,
      closing: undefined,
    });
  }
  const released = releaseWaiting(state, lengthS);
  forgetOldSegments(state);
  return { kind: "applied", state, closing, released };
}

function deviceSegment(device: Device, at: number): Segment {
  const { meterId, initial, modulusWh, maxPowerW } = device;
  return {
    meterId,
    epoch: 0,
    openedAt: at,
    initial,
    baseWh: ZERO_WH,
    modulusWh,
    maxPowerW,
    closing: undefined,
  };
}

/** More than `MAX_SEGMENTS` epochs within the few intervals that are open cost the oldest ones their shape, not their energy. */
function forgetOldSegments(state: ServicePoint): void {
  const { segments, points } = state;
  while (segments.length > MAX_SEGMENTS) {
    const oldest = segments.shift();
    while (points[0]?.segment === oldest) points.shift();
  }
}

function below(registers: Registers, { modulusWh }: Segment): boolean {
  return registers.importWh < modulusWh && registers.exportWh < modulusWh;
}

function refused(reason: RefusalReason): RecordOutcome {
  return { kind: "refused", reason };
}
