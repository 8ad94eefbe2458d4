import { Type, type TSchema } from "typebox";
import { ProblemSchema } from "./problem.ts";

/** Energy: a decimal string, because JSON numbers are floats in most readers. */
export const WhSchema = Type.String({
  pattern: "^-?[0-9]+$",
  description: "Wh, decimal",
  examples: ["123456"],
});

/** `0x` and lower-case hex digits of so many bytes. */
export function hexSchema(bytes: number): ReturnType<typeof Type.String> {
  return Type.String({ pattern: `^0x[0-9a-f]{${2 * bytes}}$` });
}

/** An address as a client may write it; answers are in lower case. */
export const AddressParam = Type.String({ pattern: "^0x[0-9a-fA-F]{40}$", description: "EVM address" });

/** Name of a region, meter or service point. */
export const NameParam = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" });

/** An instant in a query: unix seconds, or ISO 8601 with its zone (a bare date is UTC). */
export const InstantParam = Type.String({
  pattern: "^([0-9]{1,11}|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,15}(Z|[+-][0-9]{2}:[0-9]{2}))?)$",
  description: "Unix seconds or ISO 8601",
  examples: ["1795000500", "2026-11-18T12:15:00Z"],
});

/** An interval by its end. */
export const IntervalParam = Type.Integer({
  minimum: 1,
  maximum: 99_999_999_999,
  description: "The interval's end, unix seconds",
});

/** Unix seconds in an answer. */
export const SecondsSchema = Type.Integer({ description: "Unix seconds" });

/** Unix milliseconds in an answer. */
export const MillisecondsSchema = Type.Integer({ description: "Unix milliseconds" });

export const U32Schema = Type.Integer({ minimum: 0, maximum: 0xffff_ffff });

/** How many items a page has at most. */
export function limitParam(fallback: number, maximum: number): ReturnType<typeof Type.Integer> {
  return Type.Integer({ minimum: 1, maximum, default: fallback, description: "Most items of the page" });
}

/** What a query without further fields looks like; an unknown field is a mistake and refused. */
export const CLOSED = { additionalProperties: false } as const;

/** Answers of a route: its own, and problems for the statuses it may have beside it. */
export function answers<T extends TSchema>(ok: T): { 200: T; "4xx": TSchema; "5xx": TSchema } {
  const problem = {
    content: { "application/problem+json": { schema: ProblemSchema } },
  } as unknown as TSchema;
  return { 200: ok, "4xx": problem, "5xx": problem };
}
