import type { Wh } from "./units.ts";

/** Cumulative registers at one instant. */
export interface Registers {
  readonly importWh: Wh;
  readonly exportWh: Wh;
}

/** What a new device brings: its identity, its limits and the registers it starts with. */
export interface Device {
  readonly meterId: string;
  readonly initial: Registers;
  /** Registers wrap to 0 at this value. */
  readonly modulusWh: Wh;
  /** The most the connection can carry in either direction, W: the physical cap of VEE. */
  readonly maxPowerW: number;
  /** SHA-256 of the MQTT secret, 64 hex digits. */
  readonly secretSha256: string;
}

interface Common {
  /** Unique: a record written twice takes effect once. */
  readonly id: string;
  readonly servicePoint: string;
  /** When it takes effect, unix seconds. */
  readonly at: number;
}

/** A meter begins at a service point: epoch 0 of the meter opens with `device.initial`. */
export interface CommissionRecord extends Common {
  readonly type: "commission";
  readonly utility: string;
  readonly region: string;
  /** Who is credited: an EVM address, lower case, 0x and 40 hex digits. */
  readonly account: string;
  readonly device: Device;
}

/** Another meter takes over a service point: the old one's epoch closes, the new one's epoch 0 opens. */
export interface SwapRecord extends Common {
  readonly type: "swap";
  readonly meterId: string;
  readonly final: Registers;
  readonly device: Device;
}

/** The registers of a meter start again: its epoch closes and the next one opens. */
export interface ResetRecord extends Common {
  readonly type: "reset";
  readonly meterId: string;
  /** The epoch that closes. */
  readonly epoch: number;
  readonly final: Registers;
  readonly initial: Registers;
}

/** A service point ends. */
export interface RetireRecord extends Common {
  readonly type: "retire";
  readonly meterId: string;
  readonly final: Registers;
}

/**
 * What `gridroot meters` writes to the log of a region, under header `kind: "meter"`, keyed by meter id, in the
 * partition of the service point. The registry in the ledger is a projection of these records.
 */
export type RegistryRecord = CommissionRecord | SwapRecord | ResetRecord | RetireRecord;
