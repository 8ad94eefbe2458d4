import { SettlementError } from "./errors.ts";
import type { Hex } from "./settlement.ts";

/** 32 zero bytes: the root and data hash before a region's first batch. */
export const ZERO_HASH: Hex = `0x${"00".repeat(32)}`;

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** `0x` and lower-case hex digits. */
export function toHex(bytes: Uint8Array): Hex {
  let text = "";
  for (const byte of bytes) text += DIGITS[byte];
  return `0x${text}`;
}

/** Whether `text` is `0x` and the lower-case digits of `length` bytes: the only form two texts may be compared in. */
export function isHex(text: unknown, length: number): text is Hex {
  return typeof text === "string" && text.length === 2 + 2 * length && /^0x[0-9a-f]*$/.test(text);
}

/** Writes the `length` bytes of `hex` at `offset`. Throws `malformed-hex` for another length or an upper-case digit. */
export function writeHex(target: Uint8Array, offset: number, hex: Hex, length: number): void {
  if (hex.length !== 2 + 2 * length) throw malformed(hex, length);
  for (let i = 0; i < length; i += 1) {
    const high = digit(hex.charCodeAt(2 + 2 * i));
    const low = digit(hex.charCodeAt(3 + 2 * i));
    if (high < 0 || low < 0) throw malformed(hex, length);
    target[offset + i] = high * 16 + low;
  }
}

function digit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  return code >= 97 && code <= 102 ? code - 87 : -1;
}

function malformed(hex: string, length: number): SettlementError {
  return new SettlementError("malformed-hex", `not ${length} bytes in lower-case hex: ${hex.slice(0, 80)}`);
}

/** The `length` bytes of `hex`. Throws `malformed-hex`. */
export function fromHex(hex: Hex, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  writeHex(bytes, 0, hex, length);
  return bytes;
}
