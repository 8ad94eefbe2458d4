import assert from "node:assert/strict";
import { createContext, runInContext } from "node:vm";
import { test } from "node:test";
import { build } from "esbuild";
import { Wallet } from "ethers";
import { wh } from "../metering/units.ts";
import { type BoundaryValue, buildBatch } from "./batch.ts";
import { parseBundle } from "./bundle-parsing.ts";
import { verifyBundle } from "./bundle-verification.ts";
import { createHasher } from "./hasher.ts";
import { buildTree } from "./merkle-sum-tree.ts";
import { SETTLEMENT_TYPES, typedDomain } from "./message.ts";
import { type ProofBundle, bundleToJson, createBundle } from "./proof-bundle.ts";
import type { Hex, SettlementDomain } from "./settlement.ts";

const hasher = await createHasher();
const domain: SettlementDomain = { chainId: 31337, verifyingContract: `0x${"ab".repeat(20)}` };
const authorities = [Wallet.createRandom(), Wallet.createRandom()] as const;
const addresses = authorities.map((wallet) => wallet.address.toLowerCase() as Hex);
const CUSTOMER: Hex = `0x${"02".padStart(40, "0")}`;

function boundaries(scale: bigint): BoundaryValue[] {
  return [1, 2, 3, 4, 5].map((n) => ({
    servicePoint: `sp-${n}`,
    account: `0x${(n === 3 ? 2 : n).toString(16).padStart(40, "0")}`,
    creditWh: wh(BigInt(n) * scale),
    ...{ meterId: `meter-${n}`, epoch: 0, seq: Number(scale), t: 900 * Number(scale) },
  }));
}

async function bundleOf(account: Hex): Promise<ProofBundle> {
  const fixed = {
    region: 4,
    round: 0,
    intervalLengthS: 900,
    capWh: wh(22),
    registryVersion: 1n,
    offsets: [],
  };
  const first = buildBatch(hasher, undefined, { ...fixed, interval: 900, boundaries: boundaries(1n) });
  const second = buildBatch(hasher, first.evidence, {
    ...fixed,
    ...{ interval: 2700, boundaries: boundaries(4n).map((value) => ({ ...value, t: 2700 })) },
  });
  const settlement = { ...second.content, authoritySetEpoch: 1 };
  const signatures = await Promise.all(
    authorities.map(async (wallet, i) => ({
      authority: addresses[i]!,
      authoritySetEpoch: 1,
      signature: (await wallet.signTypedData(typedDomain(domain), SETTLEMENT_TYPES, settlement)) as Hex,
    })),
  );
  const bundle = createBundle(
    {
      ...{ domain, regionName: "western", settlement: second.content, signatures },
      ...{
        evidence: second.evidence,
        previous: first.evidence,
        tree: buildTree(hasher, second.evidence.accounts),
      },
    },
    account,
  );
  assert.ok(bundle);
  return bundle;
}

const bundle = await bundleOf(CUSTOMER);
const text = JSON.stringify(bundleToJson(bundle));
const trusted = { addresses, threshold: 2 };

function failed(changed: ProofBundle): string[] {
  return verifyBundle(hasher, changed, trusted)
    .filter((check) => !check.passed)
    .map((check) => check.name);
}

test("a bundle is read back from its JSON and passes every check", () => {
  const parsed = parseBundle(text);
  assert.deepEqual(parsed, bundle);
  const checks = verifyBundle(hasher, parsed, trusted);
  assert.deepEqual(
    checks.map((check) => [check.name, check.passed]),
    [
      ["measured-difference", true],
      ["balance", true],
      ["merkle-path", true],
      ["content-hash", true],
      ["signatures", true],
      ["authority-quorum", true],
    ],
  );
  assert.match(checks[0]!.detail, /registers moved by 15 Wh/);
});

test("each lie fails the check that is about it", () => {
  const { leaf, points, settlement, record, signatures, siblings } = bundle;
  const point = points[0]!;
  const cases: [string, ProofBundle][] = [
    ["balance", { ...bundle, points: points.with(0, { ...point, creditWh: wh(point.creditWh + 1n) }) }],
    ["balance", { ...bundle, points: [point, point] }],
    ["balance", { ...bundle, points: points.with(0, { ...point, t: settlement.interval + 1 }) }],
    ["balance", { ...bundle, heldWh: wh(bundle.heldWh + 1n) }],
    [
      "measured-difference",
      { ...bundle, points: points.with(0, { ...point, previousCreditWh: wh(point.previousCreditWh + 1n) }) },
    ],
    ["measured-difference", { ...bundle, previous: { ...bundle.previous!, interval: 1 } }],
    [
      "measured-difference",
      { ...bundle, previous: { ...bundle.previous!, creditWh: wh(1000), debitWh: wh(1000) } },
    ],
    ["merkle-path", { ...bundle, leaf: { ...leaf, creditWh: wh(leaf.creditWh + 1n) } }],
    ["merkle-path", { ...bundle, leaf: { ...leaf, index: leaf.index + 1 } }],
    ["merkle-path", { ...bundle, siblings: siblings.slice(1) }],
    ["content-hash", { ...bundle, settlement: { ...settlement, round: 1 } }],
    ["content-hash", { ...bundle, record: { ...record, interval: 1 } }],
    ["content-hash", { ...bundle, record: { ...record, contentHash: record.root } }],
    ["signatures", { ...bundle, domain: { ...domain, chainId: 1 } }],
    ["signatures", { ...bundle, signatures: [signatures[0]!, signatures[0]!] }],
    ["signatures", { ...bundle, signatures: [{ ...signatures[0]!, authority: addresses[1]! }] }],
    ["authority-quorum", { ...bundle, signatures: [signatures[0]!] }],
    ["authority-quorum", { ...bundle, signatures: [] }],
    ["authority-quorum", { ...bundle, signatures: [signatures[0]!, signatures[0]!] }],
  ];
  for (const [name, changed] of cases)
    assert.ok(failed(changed).includes(name), `${name}: ${failed(changed).join()}`);
});

test("signatures under different epochs of the authority set do not add up", async () => {
  const wallet = authorities[1];
  const settlement = { ...bundle.settlement, authoritySetEpoch: 2 };
  const signature = (await wallet.signTypedData(typedDomain(domain), SETTLEMENT_TYPES, settlement)) as Hex;
  const other = { authority: addresses[1]!, authoritySetEpoch: 2, signature };
  assert.deepEqual(failed({ ...bundle, signatures: [bundle.signatures[0]!, other] }), ["authority-quorum"]);
});

test("a text that is not exactly a bundle is refused, naming the field", () => {
  const json = JSON.parse(text) as Record<string, unknown> & { leaf: Record<string, unknown> };
  const cases: [RegExp, unknown][] = [
    [/bundle is no object/, []],
    [/version is 2/, { ...json, version: 2 }],
    [/bundle\.extra is not known/, { ...json, extra: 1 }],
    [/bundle\.heldWh is missing/, { ...json, heldWh: undefined }],
    [/bundle\.heldWh is no decimal/, { ...json, heldWh: 12 }],
    [/bundle\.heldWh is no decimal/, { ...json, heldWh: "012" }],
    [/bundle\.heldWh is no decimal/, { ...json, heldWh: "18446744073709551616" }],
    [/bundle\.contract is not 20 bytes/, { ...json, contract: `0x${"AB".repeat(20)}` }],
    [/bundle\.leaf\.index is no integer/, { ...json, leaf: { ...json.leaf, index: 1.5 } }],
    [/bundle\.leaf\.kWh is not known/, { ...json, leaf: { ...json.leaf, kWh: "1" } }],
    [/bundle\.siblings has more than 32/, { ...json, siblings: Array.from({ length: 33 }, () => ({})) }],
    [/bundle\.siblings\[0\]\.hash is missing/, { ...json, siblings: [{}] }],
    [/bundle\.points is no array/, { ...json, points: {} }],
  ];
  for (const [message, changed] of cases) {
    assert.throws(() => parseBundle(JSON.stringify(changed)), { code: "bundle-malformed", message });
  }
  assert.throws(() => parseBundle("{"), { code: "bundle-malformed" });
});

test("an account that is not in the batch has no bundle", async () => {
  await assert.rejects(bundleOf(`0x${"99".repeat(20)}`), /undefined|falsy|ok/i);
});

test("the verifier runs in a browser: no Node module in the bundle, no Node global around it", async () => {
  const entry = `
    import { createHasher } from "./domain/settlement/hasher.ts";
    import { parseBundle } from "./domain/settlement/bundle-parsing.ts";
    import { verifyBundle } from "./domain/settlement/bundle-verification.ts";
    export const verify = async (text) => verifyBundle(await createHasher(), parseBundle(text));
  `;
  const root = new URL("../../", import.meta.url).pathname;
  const result = await build({
    stdin: { contents: entry, resolveDir: root, loader: "ts" },
    ...{
      bundle: true,
      platform: "browser",
      format: "iife",
      globalName: "gridroot",
      write: false,
      metafile: true,
    },
  });
  const imported = Object.values(result.metafile.inputs).flatMap((input) => input.imports);
  assert.deepEqual(
    imported.filter(({ path }) => path.startsWith("node:")),
    [],
  );
  // What every browser has beyond the language itself; `process`, `Buffer` and `require` are not among it.
  const browser = createContext({ TextEncoder, TextDecoder, crypto, text });
  runInContext("globalThis.self = globalThis.window = globalThis;", browser);
  runInContext(result.outputFiles[0]!.text, browser);
  assert.equal(
    runInContext("typeof process + typeof Buffer + typeof require", browser),
    "undefined".repeat(3),
  );
  const json = (await runInContext(
    "gridroot.verify(text).then((checks) => JSON.stringify(checks))",
    browser,
  )) as string;
  assert.deepEqual(JSON.parse(json), verifyBundle(hasher, bundle));
});

test("all of domain/ can be bundled for a browser", async () => {
  const root = new URL("../", import.meta.url).pathname;
  const result = await build({
    entryPoints: [`${root}**/*.ts`],
    outdir: "unwritten",
    ...{
      bundle: true,
      platform: "browser",
      format: "esm",
      write: false,
      metafile: true,
      external: ["node:*"],
    },
    plugins: [
      {
        name: "leave tests out",
        setup(build) {
          build.onLoad({ filter: /\.test\.ts$/ }, () => ({ contents: "" }));
        },
      },
    ],
  });
  const imports = Object.entries(result.metafile.inputs).flatMap(([file, input]) =>
    input.imports.filter(({ path }) => path.startsWith("node:")).map(({ path }) => `${file} imports ${path}`),
  );
  assert.deepEqual(imports, []);
});
