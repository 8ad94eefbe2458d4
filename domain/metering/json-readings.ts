/**
 * A strict reader of `rd` payloads in JSON. `JSON.parse` alone will not do: it takes `1e3` and `1.0` for integers,
 * rounds what is beyond 2^53, and lets the second of two equal names win.
 */

/** Why a payload cannot be read. */
export const PAYLOAD_FAULTS = [
  "not-utf8",
  "malformed-json",
  "wrong-shape",
  "too-many-readings",
  "missing-field",
  "duplicate-field",
  "wrong-type",
  "not-an-integer",
  "out-of-range",
] as const;
export type PayloadFault = (typeof PAYLOAD_FAULTS)[number];

/** What is wrong with a payload, and where; never what it holds. */
export class PayloadError extends Error {
  readonly reason: PayloadFault;
  constructor(reason: PayloadFault, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

/** An integer field of an object: its inclusive range. */
export interface IntegerField {
  readonly min: number;
  readonly max: number;
}

/** One JSON object: the integers that were asked for, and every other field as `JSON.parse` reads it. */
export interface StrictObject {
  readonly integers: ReadonlyMap<string, number>;
  readonly unknown: ReadonlyMap<string, unknown>;
}

/** Deeper nesting in a field we do not know is refused: whoever walks the value later may do so recursively. */
const MAX_DEPTH = 16;

const [QUOTE, COMMA, COLON, BACKSLASH] = [0x22, 0x2c, 0x3a, 0x5c];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];
const [ZERO, NINE, MINUS] = [0x30, 0x39, 0x2d];

/**
 * Reads one object or an array of 1 to `maxObjects` objects whose fields named in `fields` are integers. Throws
 * `PayloadError`.
 */
export function parseStrictObjects(
  text: string,
  fields: ReadonlyMap<string, IntegerField>,
  maxObjects: number,
): StrictObject[] {
  const cursor = new Cursor(text);
  const objects: StrictObject[] = [];
  if (cursor.peek() === OPEN_BRACKET) {
    cursor.take(OPEN_BRACKET);
    do {
      if (objects.length === maxObjects) {
        throw new PayloadError("too-many-readings", `more than ${maxObjects} readings in one array`);
      }
      objects.push(parseObject(cursor, fields, objects.length));
    } while (cursor.takeIf(COMMA));
    cursor.take(CLOSE_BRACKET);
  } else {
    objects.push(parseObject(cursor, fields, 0));
  }
  if (!cursor.atEnd()) throw malformed();
  return objects;
}

function parseObject(cursor: Cursor, fields: ReadonlyMap<string, IntegerField>, index: number): StrictObject {
  if (cursor.peek() !== OPEN_BRACE) {
    // An empty array, a number, a string and so on are JSON, but no reading; the rest is not even JSON.
    if (cursor.peek() !== CLOSE_BRACKET) cursor.anyValue();
    throw new PayloadError("wrong-shape", `reading ${index}: not an object`);
  }
  cursor.take(OPEN_BRACE);
  const integers = new Map<string, number>();
  const unknown = new Map<string, unknown>();
  if (cursor.takeIf(CLOSE_BRACE)) return { integers, unknown };
  do {
    const name = cursor.string();
    cursor.take(COLON);
    const field = fields.get(name);
    if (integers.has(name) || unknown.has(name)) {
      // Only names of ours are repeated in the detail: any other is the sender's text.
      const shown = field === undefined ? "an unknown field" : name;
      throw new PayloadError("duplicate-field", `reading ${index}: ${shown} occurs twice`);
    }
    if (field === undefined) unknown.set(name, cursor.anyValue());
    else integers.set(name, parseInteger(cursor, field, `reading ${index}: ${name}`));
  } while (cursor.takeIf(COMMA));
  cursor.take(CLOSE_BRACE);
  return { integers, unknown };
}

function parseInteger(cursor: Cursor, field: IntegerField, where: string): number {
  const value = cursor.integer();
  if (value === undefined) {
    if (typeof cursor.anyValue() !== "number") throw new PayloadError("wrong-type", `${where} is no number`);
    throw new PayloadError("not-an-integer", `${where} is not written as an integer`);
  }
  if (!Number.isSafeInteger(value) || value < field.min || value > field.max) {
    throw new PayloadError("out-of-range", `${where} is outside ${field.min} to ${field.max}`);
  }
  return value;
}

class Cursor {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  peek(): number {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return code;
      this.#at += 1;
    }
  }

  atEnd(): boolean {
    return Number.isNaN(this.peek());
  }

  take(code: number): void {
    if (!this.takeIf(code)) throw malformed();
  }

  takeIf(code: number): boolean {
    if (this.peek() !== code) return false;
    this.#at += 1;
    return true;
  }

  string(): string {
    if (this.peek() !== QUOTE) throw malformed();
    const from = this.#at;
    this.#skipString();
    return parseJson(this.#text.slice(from, this.#at)) as string;
  }

  /** A number written as `-?(0|[1-9][0-9]*)`, save `-0`; `undefined`, without moving, where there is none. */
  integer(): number | undefined {
    this.peek();
    const text = this.#text;
    const negative = text.charCodeAt(this.#at) === MINUS;
    const first = negative ? this.#at + 1 : this.#at;
    let at = first;
    let value = 0;
    for (; ; at += 1) {
      const code = text.charCodeAt(at);
      if (!(code >= ZERO && code <= NINE)) break;
      value = value * 10 + (code - ZERO);
    }
    const leadingZero = text.charCodeAt(first) === ZERO && (at > first + 1 || negative);
    const next = text[at];
    if (at === first || leadingZero || next === "." || next === "e" || next === "E") return undefined;
    this.#at = at;
    return negative ? -value : value;
  }

  /** Any JSON value, by `JSON.parse`. */
  anyValue(): unknown {
    this.peek();
    const from = this.#at;
    let depth = 0;
    for (; this.#at < this.#text.length;) {
      const code = this.#text.charCodeAt(this.#at);
      const closes = code === CLOSE_BRACE || code === CLOSE_BRACKET;
      if (depth === 0 && (closes || code === COMMA)) break;
      if (code === QUOTE) {
        this.#skipString();
        continue;
      }
      if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
      if (depth > MAX_DEPTH) throw new PayloadError("wrong-shape", `nested deeper than ${MAX_DEPTH}`);
      if (closes) depth -= 1;
      this.#at += 1;
    }
    return parseJson(this.#text.slice(from, this.#at));
  }

  #skipString(): void {
    for (this.#at += 1; this.#at < this.#text.length; this.#at += 1) {
      const code = this.#text.charCodeAt(this.#at);
      if (code === BACKSLASH) this.#at += 1;
      else if (code === QUOTE) break;
    }
    this.#at += 1;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw malformed();
  }
}

function malformed(): PayloadError {
  return new PayloadError("malformed-json", "not JSON");
}
