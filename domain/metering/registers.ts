import { type Wh, wh } from "./units.ts";

/** What bounds a register: where it wraps, and the most power that can flow into it. */
export interface RegisterLimits {
  readonly modulusWh: Wh;
  readonly maxPowerW: number;
}

/** An unwrapped register at an instant: it counts on where the device starts again at 0. */
export interface RegisterPoint {
  /** Unix seconds. */
  readonly t: number;
  readonly valueWh: Wh;
}

/**
 * Why a register value is set aside: it fell although no rollover explains it, or it rose more than the connection
 * can carry, or the device cannot show it.
 */
export type RegisterFault = "register-decrease" | "above-physical-cap" | "register-beyond-modulus";

/** The most energy that can pass in `elapsedS`: Pmax x dt x 1.1, rounded down, and 1 Wh for the registers' own rounding. */
export function physicalCapWh(maxPowerW: number, elapsedS: number): Wh {
  return wh((BigInt(maxPowerW) * BigInt(elapsedS) * 11n) / 36_000n + 1n);
}

/**
 * Unwraps what a register shows at `t` against its neighbours in time: the point before it, and the one after it
 * where the reading came late. The result lies between them, and both steps are within the physical cap; otherwise
 * the fault says why not.
 */
export function unwrapRegister(
  shownWh: Wh,
  t: number,
  limits: RegisterLimits,
  before: RegisterPoint,
  after: RegisterPoint | undefined,
): Wh | RegisterFault {
  const { modulusWh, maxPowerW } = limits;
  if (shownWh >= modulusWh) return "register-beyond-modulus";
  const valueWh = after === undefined ? atLeast(before.valueWh) : atMost(after.valueWh);
  if (valueWh < before.valueWh) return "register-decrease";
  if (valueWh - before.valueWh > physicalCapWh(maxPowerW, t - before.t)) {
    return shownWh < before.valueWh % modulusWh ? "register-decrease" : "above-physical-cap";
  }
  if (after !== undefined && after.valueWh - valueWh > physicalCapWh(maxPowerW, after.t - t)) {
    return shownWh > after.valueWh % modulusWh ? "register-decrease" : "above-physical-cap";
  }
  return valueWh;

  function atLeast(boundWh: Wh): Wh {
    const valueWh = boundWh - (boundWh % modulusWh) + shownWh;
    return wh(valueWh < boundWh ? valueWh + modulusWh : valueWh);
  }

  function atMost(boundWh: Wh): Wh {
    const valueWh = boundWh - (boundWh % modulusWh) + shownWh;
    return wh(valueWh > boundWh ? valueWh - modulusWh : valueWh);
  }
}
