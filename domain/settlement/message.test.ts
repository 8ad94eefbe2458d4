import assert from "node:assert/strict";
import { test } from "node:test";
import { AbiCoder, TypedDataEncoder, Wallet, id, keccak256 } from "ethers";
import { wh } from "../metering/units.ts";
import {
  SETTLEMENT_TYPES,
  contentHash,
  recoverAuthority,
  recoverRefusal,
  refusalMessage,
  settlementDigest,
  typedDomain,
} from "./message.ts";
import type { Hex, Settlement, SettlementDomain } from "./settlement.ts";

const domain: SettlementDomain = { chainId: 31337, verifyingContract: `0x${"11".repeat(20)}` };
const settlement: Settlement = {
  region: 3,
  round: 1,
  interval: 1_795_000_500,
  prevInterval: 1_794_999_600,
  prevRoot: `0x${"22".repeat(32)}`,
  root: `0x${"33".repeat(32)}`,
  intervalCreditWh: wh(1_234),
  cumulativeCreditWh: wh(5_678),
  cumulativeDebitWh: wh(9),
  leafCount: 30,
  dataHash: `0x${"44".repeat(32)}`,
  authoritySetEpoch: 2,
};
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const wallet = Wallet.createRandom();
const address = wallet.address.toLowerCase();

test("the EIP-712 type is the one of the specification", () => {
  const encoder = TypedDataEncoder.from(SETTLEMENT_TYPES);
  const type =
    "Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root," +
    "uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash," +
    "uint32 authoritySetEpoch)";
  assert.equal(encoder.encodeType("Settlement"), type);
});

test("the digest is 0x1901, domain separator and struct hash, spelled out by hand", () => {
  const abi = AbiCoder.defaultAbiCoder();
  const separator = keccak256(
    abi.encode(
      ["bytes32", "bytes32", "bytes32", "uint256", "address"],
      [
        id("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        id("Gridroot Settlement"),
        id("1"),
        domain.chainId,
        domain.verifyingContract,
      ],
    ),
  );
  const type = id(TypedDataEncoder.from(SETTLEMENT_TYPES).encodeType("Settlement"));
  const types = SETTLEMENT_TYPES.Settlement.map((field) => field.type);
  const struct = keccak256(abi.encode(["bytes32", ...types], [type, ...Object.values(settlement)]));
  const digest = keccak256(`0x1901${separator.slice(2)}${struct.slice(2)}`);
  assert.equal(settlementDigest(domain, settlement), digest);
});

test("the content hash covers every field save the authority set's epoch", () => {
  const { authoritySetEpoch, ...content } = settlement;
  assert.equal(authoritySetEpoch, 2);
  const hash = contentHash(content);
  assert.equal(contentHash(settlement), hash);
  const changed: Partial<Settlement>[] = [
    { region: 4 },
    { round: 2 },
    { interval: 1 },
    { prevInterval: 1 },
    { prevRoot: settlement.root },
    { root: settlement.prevRoot },
    { intervalCreditWh: wh(1) },
    { cumulativeCreditWh: wh(1) },
    { cumulativeDebitWh: wh(1) },
    { leafCount: 1 },
    { dataHash: settlement.root },
  ];
  assert.equal(changed.length, Object.keys(content).length);
  for (const change of changed) assert.notEqual(contentHash({ ...content, ...change }), hash);
});

test("a signature names its authority for this very message and contract", async () => {
  const signature = await sign();
  assert.equal(recoverAuthority(domain, settlement, signature), address);
  assert.notEqual(recoverAuthority(domain, { ...settlement, authoritySetEpoch: 3 }, signature), address);
  assert.notEqual(recoverAuthority({ ...domain, chainId: 1 }, settlement, signature), address);
});

test("what the contract would not accept as a signature names nobody", async () => {
  const signature = await sign();
  const [r, s, v] = [signature.slice(2, 66), signature.slice(66, 130), signature.slice(130)];
  const highS = (CURVE_ORDER - BigInt(`0x${s}`)).toString(16).padStart(64, "0");
  const otherV = v === "1b" ? "1c" : "1b";
  const refused: Record<string, string> = {
    "the same signature with high s": `0x${r}${highS}${otherV}`,
    "v of 0 or 1": `0x${r}${s}${v === "1b" ? "00" : "01"}`,
    "64 bytes": `0x${r}${s}`,
    "66 bytes": `${signature}00`,
    "upper case": signature.toUpperCase().replace("0X", "0x"),
    nothing: "0x",
    zeros: `0x${"00".repeat(64)}1b`,
  };
  for (const [what, text] of Object.entries(refused)) {
    assert.equal(recoverAuthority(domain, settlement, text as Hex), undefined, what);
  }
});

test("a refusal is signed with its reason", async () => {
  const hash = contentHash(settlement);
  const signature = (await wallet.signMessage(refusalMessage(hash, "root-differs"))) as Hex;
  assert.equal(recoverRefusal(hash, "root-differs", signature), address);
  assert.notEqual(recoverRefusal(hash, "cap-exceeded", signature), address);
});

async function sign(): Promise<Hex> {
  return (await wallet.signTypedData(typedDomain(domain), SETTLEMENT_TYPES, settlement)) as Hex;
}
