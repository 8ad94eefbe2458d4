/**
 * Named points at which a crash test kills the process. In production `noFaults` is passed and a point costs a
 * call of an empty function.
 */
export interface FaultPoints {
  /** May never return: the process is gone with SIGKILL. */
  hit(point: string): void;
}

export const noFaults: FaultPoints = { hit() {} };

/** Kills the process at the `occurrence`-th pass (from 1) of `point`. */
export function killAt(point: string, occurrence: number): FaultPoints {
  let passes = 0;
  return {
    hit(name) {
      if (name !== point) return;
      passes += 1;
      if (passes === occurrence) process.kill(process.pid, "SIGKILL");
    },
  };
}

/** Parses `name` or `name:occurrence`; an empty text is no fault. */
export function parseFaultPoint(text: string): FaultPoints {
  if (text === "") return noFaults;
  const [name = "", occurrence = "1"] = text.split(":");
  return killAt(name, Number(occurrence));
}
