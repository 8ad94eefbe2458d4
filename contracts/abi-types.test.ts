import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { typesOf } from "./abi-types.ts";

test("the committed types are the committed ABIs'", async () => {
  const contracts = ["Settlement", "AccessManager"].map(async (name) => {
    const text = await readFile(new URL(`./generated/${name}.json`, import.meta.url), "utf8");
    return { name, abi: (JSON.parse(text) as { abi: readonly unknown[] }).abi };
  });
  const committed = await readFile(new URL("./generated/abi.ts", import.meta.url), "utf8");
  assert.equal(committed, typesOf(await Promise.all(contracts)), "run `npm run contracts:build`");
});

const parameter = (name: string, type: string) => ({ name, type, internalType: type });

test("a call is typed by what it is given and answers, structs and lists included", () => {
  const point = {
    name: "points",
    type: "tuple[][2]",
    internalType: "struct Shapes.Point[][2]",
    components: [parameter("x", "int64"), parameter("tag", "bytes4")],
  };
  const abi = [
    { type: "function", name: "draw", inputs: [point, parameter("", "bool")], outputs: [point] },
    {
      type: "function",
      name: "size",
      inputs: [],
      outputs: [parameter("width", "uint8"), parameter("owner", "address")],
    },
    { type: "event", name: "Drawn", inputs: [parameter("by", "address")] },
    { type: "error", name: "ERC2612TooLarge", inputs: [] },
  ];
  const text = typesOf([{ name: "Shapes", abi }]);
  for (const line of [
    "  readonly x: number | bigint;\n  readonly tag: string;",
    "  readonly x: bigint;\n  readonly tag: Hex;",
    "    draw: { given: readonly [points: ReadonlyArray<ReadonlyArray<PointGiven>>, value1: boolean]; answered: ReadonlyArray<ReadonlyArray<Point>> };",
    "    size: { given: readonly []; answered: { readonly width: bigint; readonly owner: Hex } };",
    "    Drawn: { readonly by: Hex };",
    '    ERC2612TooLarge: "contract-erc2612-too-large";',
  ]) {
    assert.ok(text.includes(line), `${line}\nis not in\n${text}`);
  }
});

test("two functions of one name are refused", () => {
  const abi = ["uint8", "bool"].map((type) => ({
    type: "function",
    name: "draw",
    inputs: [parameter("by", type)],
    outputs: [],
  }));
  assert.throws(() => typesOf([{ name: "Shapes", abi }]), /two functions of Shapes have one name/);
});
