import type { Wh } from "./units.ts";

/**
 * One snapshot of a meter's cumulative registers.
 *
 * Identity is (meterId, epoch, seq). All numbers are non-negative safe integers, save `powerW`.
 */
export interface Reading {
  readonly meterId: string;
  /** Register epoch of the meter: registers are comparable only within one epoch. */
  readonly epoch: number;
  readonly seq: number;
  /** When the registers were read, unix seconds by the meter's clock. */
  readonly t: number;
  /** OBIS 1-0:1.8.0*255, A+. */
  readonly importWh: Wh;
  /** OBIS 1-0:2.8.0*255, A-. */
  readonly exportWh: Wh;
  /** Instantaneous active power, negative while exporting. */
  readonly powerW?: number;
  /** Tenths of a volt. */
  readonly voltageDv?: number;
  readonly frequencyMhz?: number;
  /** Bit mask, see `STATUS`. */
  readonly status: number;
  /** Fields this version does not know, kept as received. */
  readonly unknown?: Readonly<Record<string, unknown>>;
}

/** Bits of `Reading.status`. */
export const STATUS = {
  tamper: 1,
  powerFail: 2,
  clockUnsynchronised: 4,
  clockSet: 8,
  battery: 16,
  estimatedOnDevice: 32,
} as const;
