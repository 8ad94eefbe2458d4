import assert from "node:assert/strict";
import { test } from "node:test";
import { Chain, type SendOutcome, sendOutcome } from "./chain.ts";

const WORDS: readonly (readonly [string, SendOutcome | undefined])[] = [
  ["already known", "known"],
  ["Known transaction: 0xab", "known"],
  ["ALREADY_EXISTS: already known", "known"],
  ["AlreadyKnown", "known"],
  ["nonce too low: next nonce 7, tx nonce 6", "nonce-used"],
  ["Nonce too low. Expected nonce to be 7 but got 6.", "nonce-used"],
  ["OldNonce: old nonce", "nonce-used"],
  ["nonce has already been used; NONCE_EXPIRED", "nonce-used"],
  ["nonce too high", "nonce-gap"],
  ["Nonce too high. Expected nonce to be 6 but got 9. Note that transactions can't be queued", "nonce-gap"],
  ["replacement transaction underpriced", "underpriced"],
  ["transaction underpriced", "underpriced"],
  ["insufficient funds for gas * price + value", undefined],
  ["txpool is full", undefined],
  ["429 Too Many Requests", undefined],
];

test("nodes' answers to a raw transaction are read by their meaning", () => {
  for (const [words, outcome] of WORDS) assert.equal(sendOutcome(words), outcome, words);
});

test("a node that does not answer within the bound counts as away, retryably", async () => {
  const never = () => new Promise<never>(() => {});
  const chain = new Chain({ timeoutMs: 10 }, { provider: { send: never, call: never, estimateGas: never } });
  await assert.rejects(chain.chainId(), { code: "chain-unavailable", retryable: true });
  await assert.rejects(chain.send("0x02"), { code: "chain-unavailable", retryable: true });
});
