import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { getAddress } from "ethers/address";
import { keccak256 } from "ethers/crypto";
import { toUtf8Bytes } from "ethers/utils";
import { parseTerms } from "./terms.ts";

const someone = (name: string) => `0x${keccak256(toUtf8Bytes(name)).slice(26)}`;
const holder = (name: string, delayS = 0) => ({ account: someone(name), delayS });

const TERMS = {
  label: "test-1",
  intervalLengthS: 900,
  windowS: 129_600,
  threshold: 2,
  vetoThreshold: 1,
  authorities: ["egat", "mea", "pea"].map(someone),
  governance: {
    admin: holder("council", 604_800),
    authoritySet: holder("council"),
    caps: holder("council"),
    pause: holder("watch"),
    rulings: holder("court"),
  },
  regions: [{ regionId: 1, name: "bangkok", capWh: "5000000000", startInterval: 900_000 }],
};

test("terms are read with their authorities in ascending order", () => {
  const terms = parseTerms(TERMS, { realChain: true });
  assert.deepEqual(terms.authorities, TERMS.authorities.toSorted());
  assert.equal(terms.regions[0]!.capWh, 5_000_000_000n);
  assert.deepEqual(terms.governance.admin, holder("council", 604_800));
});

const [first = "", second = ""] = TERMS.authorities;
const misspelt = getAddress(first).replace(/[A-F]/, (digit) => digit.toLowerCase());
// The first account of every development chain.
const published = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

for (const [why, authorities, fault] of [
  ["nobody at all", [], /authorities: nobody is named/],
  ["a blank", ["", second], /authorities\[0\]\.address: nobody is named/],
  ["a name", ["egat.eth", second], /is no address/],
  ["the zero address", [`0x${"0".repeat(40)}`, second], /is the zero address/],
  ["one authority twice", [first, getAddress(first)], /is named twice/],
  ["a wrong checksum", [misspelt, second], /misspelt, by its checksum/],
  ["a repeated byte", [`0x${"ab".repeat(20)}`, second], /is a placeholder/],
  ["a burn address", ["0x000000000000000000000000000000000000dEaD", second], /is a placeholder/],
  ["a filler", [`0xdeadbeef${first.slice(10)}`, second], /is a placeholder/],
  ["a precompile", [`0x${"0".repeat(39)}1`, second], /is a placeholder/],
  ["a key that everybody knows", [published, second], /is of a key that everybody knows/],
] as const) {
  test(`authorities of a real chain are not ${why}`, () => {
    assert.throws(() => parseTerms({ ...TERMS, authorities }, { realChain: true }), {
      code: "terms-invalid",
      message: fault,
    });
  });
}

test("who governs a real chain is somebody, too", () => {
  const governance = { ...TERMS.governance, admin: { account: published, delayS: 0 } };
  assert.throws(() => parseTerms({ ...TERMS, governance }, { realChain: true }), {
    message: /governance\.admin\.account: 0xf39F.* is of a key that everybody knows/,
  });
});

test("a local chain takes known keys and fillers, but no zero address and nobody twice", () => {
  const filler = `0x${"ab".repeat(20)}`;
  const terms = { ...TERMS, threshold: 1 };
  assert.ok(parseTerms({ ...terms, authorities: [published, filler] }, { realChain: false }));
  for (const [authorities, fault] of [
    [[filler, filler], /is named twice/],
    [[`0x${"0".repeat(40)}`, filler], /is the zero address/],
  ] as const) {
    assert.throws(() => parseTerms({ ...terms, authorities }, { realChain: false }), { message: fault });
  }
});

for (const [what, change, fault] of [
  ["a threshold above the authorities", { threshold: 4 }, /threshold: an integer from 1 to 3/],
  ["a veto that could never be outvoted", { vetoThreshold: 2 }, /vetoThreshold: an integer from 1 to 1/],
  ["no veto where there could be one", { vetoThreshold: 0 }, /vetoThreshold/],
  ["a fraction", { windowS: 0.5 }, /windowS: an integer/],
  ["an unbounded window", { windowS: 1e9 }, /windowS/],
  ["no label", { label: "" }, /label: a text/],
  ["regions that are no list", { regions: {} }, /regions: a list/],
  [
    "a cap as a number",
    { regions: [{ ...TERMS.regions[0], capWh: 5 }] },
    /regions\[0\]\.capWh: a decimal number/,
  ],
  [
    "a cap beyond 39 bits",
    { regions: [{ ...TERMS.regions[0], capWh: `${2n ** 39n}` }] },
    /regions\[0\]\.capWh/,
  ],
  [
    "a start off the grid",
    { regions: [{ ...TERMS.regions[0], startInterval: 1 }] },
    /1 is no multiple of 900/,
  ],
  ["a name that is too long", { regions: [{ ...TERMS.regions[0], name: "x".repeat(32) }] }, /name: a text/],
  ["roles without holders", { governance: undefined }, /governance\.: an object/],
] as const) {
  test(`terms are refused for ${what}`, () => {
    assert.throws(() => parseTerms({ ...TERMS, ...change }, { realChain: true }), {
      code: "terms-invalid",
      message: fault,
    });
  });
}

test("all faults are reported together", () => {
  assert.throws(() => parseTerms({ ...TERMS, label: 7, windowS: -1 }, { realChain: true }), {
    message: /label.*\n.*windowS/,
  });
  assert.throws(() => parseTerms("terms", { realChain: true }), {
    message: /the file: an object was expected/,
  });
});

test("the committed file of terms is to be filled in: it names nobody", async () => {
  const file = new URL("../../config/deployment.json", import.meta.url);
  const json = JSON.parse(await readFile(file, "utf8")) as unknown;
  assert.throws(
    () => parseTerms(json, { realChain: true }),
    (error: Error) => {
      // Nothing else is wrong with it.
      const faults = error.message.split("\n").slice(1);
      return faults.length > 0 && faults.every((fault) => /address: |account: /.test(fault));
    },
  );
});
