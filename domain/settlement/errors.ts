/** Why a rule of settlement refused its input. */
export type SettlementErrorCode =
  | "malformed-hex"
  | "no-leaves"
  | "too-many-leaves"
  | "leaves-unsorted"
  | "energy-overflow"
  | "index-out-of-range"
  | "indices-unsorted"
  | "no-service-points"
  | "duplicate-service-point"
  | "malformed-boundary-value"
  | "malformed-offsets"
  | "interval-not-aligned"
  | "interval-not-after-previous"
  | "previous-differs"
  | "evidence-malformed"
  | "bundle-malformed";

/**
 * A refusal by a rule of settlement. Trying again with the same input gives the same answer. It is not
 * `GridrootError`, because `domain/` imports nothing from outside itself, but it has the same fields.
 */
export class SettlementError extends Error {
  readonly code: SettlementErrorCode;
  readonly retryable = false;

  constructor(code: SettlementErrorCode, message: string) {
    super(message);
    this.name = "SettlementError";
    this.code = code;
  }
}
