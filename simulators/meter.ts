import { createHash, createHmac } from "node:crypto";
import type { Device, Registers } from "../domain/metering/registry-records.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import type { Energy, SiteEnergy } from "./site-energy.ts";
import { connectionPowerW, gridQuality } from "./site.ts";

/** A device at a service point. Its registers are a function of its site, its initial registers and the time. */
export interface SimulatedMeter {
  readonly meterId: string;
  readonly utility: string;
  readonly region: string;
  /** What the registry is told of the device. */
  readonly device: Device;
  /** The MQTT password: 256 bits, hex. */
  readonly secret: string;
  /** When it began to count, unix seconds. */
  readonly installedAt: number;
  readonly energy: SiteEnergy;
  /** The site's energy when the device began to count. */
  readonly atInstallation: Energy;
}

/** What tells one device from another; the rest is derived. */
export interface MeterOptions {
  readonly meterId: string;
  readonly utility: string;
  readonly region: string;
  readonly secretKey: string;
  readonly initial: Registers;
  readonly modulusWh: Wh;
  readonly installedAt: number;
  readonly energy: SiteEnergy;
}

/** Energy counted by one device since it was installed, never wrapped. */
export interface Counted {
  readonly importWh: Wh;
  readonly exportWh: Wh;
}

/** A meter as it leaves the factory and is put at its service point. */
export function createMeter(options: MeterOptions): SimulatedMeter {
  const { meterId, utility, region, secretKey, initial, modulusWh, installedAt, energy } = options;
  const secret = createHmac("sha256", secretKey).update(`mqtt-secret:${meterId}`).digest("hex");
  return {
    meterId,
    utility,
    region,
    secret,
    installedAt,
    energy,
    atInstallation: energy.at(installedAt),
    device: {
      meterId,
      initial,
      modulusWh,
      maxPowerW: connectionPowerW(energy.site),
      secretSha256: createHash("sha256").update(secret).digest("hex"),
    },
  };
}

/** The energy a meter has counted from its installation to `t`, unix seconds; whole Wh, rounded down. */
export function countedAt(meter: SimulatedMeter, t: number): Counted {
  const now = meter.energy.at(t);
  const then = meter.atInstallation;
  return {
    importWh: wh(Math.floor((now.importMilliWh - then.importMilliWh) / 1000)),
    exportWh: wh(Math.floor((now.exportMilliWh - then.exportMilliWh) / 1000)),
  };
}

/**
 * The registers a meter shows at `t`, unix seconds, at or after its installation. A pure function of the fleet's
 * seed, the meter and `t`. They only rise, save that they wrap to 0 at the modulus.
 */
export function registersAt(meter: SimulatedMeter, t: number): Registers {
  const counted = countedAt(meter, t);
  const { initial, modulusWh } = meter.device;
  return {
    importWh: wh((initial.importWh + counted.importWh) % modulusWh),
    exportWh: wh((initial.exportWh + counted.exportWh) % modulusWh),
  };
}

/**
 * Why a meter takes a snapshot. It is the low part of the sequence number, so that a restarted simulator gives the
 * same snapshot the same identity without having kept a counter.
 */
export const SNAPSHOT = { regular: 0, afterReboot: 1, wrongClock: 2, foreignTopic: 3 } as const;
export type SnapshotKind = (typeof SNAPSHOT)[keyof typeof SNAPSHOT];

/** How a reading differs from an honest one. */
export interface ReadingOptions {
  readonly snapshot?: SnapshotKind;
  /** What the meter's clock says, unix seconds; the registers are those of the true time. */
  readonly clock?: number;
  /** Bits of `Reading.status`. */
  readonly status?: number;
}

/**
 * The JSON of the reading that a meter takes at the true time `t`. `seq` is four for each second since the
 * installation plus the kind of the snapshot; the same arguments give the same bytes at any time.
 */
export function readingJson(meter: SimulatedMeter, t: number, options: ReadingOptions = {}): string {
  const { importWh, exportWh } = registersAt(meter, t);
  const { voltageDv, frequencyMhz } = gridQuality(meter.energy.site, t);
  const seq = (t - meter.installedAt) * 4 + (options.snapshot ?? SNAPSHOT.regular);
  return (
    `{"epoch":0,"seq":${seq},"t":${options.clock ?? t},"importWh":${importWh},"exportWh":${exportWh},` +
    `"powerW":${meter.energy.powerW(t)},"voltageDv":${voltageDv},"frequencyMhz":${frequencyMhz},` +
    `"status":${options.status ?? 0}}`
  );
}
