import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

interface Compiler {
  compile(input: string, callbacks: { import: (path: string) => { contents: string } }): string;
}

const SOURCES = new URL("./src/", import.meta.url);

/** All that solc says about the sources; it compiles no code for that. */
function complaintsOf(sources: Readonly<Record<string, string>>): readonly string[] {
  const require = createRequire(import.meta.url);
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(Object.entries(sources).map(([name, content]) => [name, { content }])),
    settings: { evmVersion: "prague", outputSelection: { "*": { "*": ["abi"] } } },
  };
  const output = (require("solc") as Compiler).compile(JSON.stringify(input), {
    import: (path) => ({ contents: readFileSync(require.resolve(path), "utf8") }),
  });
  const { errors = [] } = JSON.parse(output) as { errors?: readonly { formattedMessage: string }[] };
  return errors.map(({ formattedMessage }) => formattedMessage);
}

test("the compiler has nothing to say about the contract", () => {
  const names = readdirSync(SOURCES).filter((name) => name.endsWith(".sol"));
  const sources = Object.fromEntries(
    names.map((name) => [`src/${name}`, readFileSync(fileURLToPath(new URL(name, SOURCES)), "utf8")]),
  );
  assert.deepEqual(complaintsOf(sources), []);
  const idle =
    "// SPDX-License-Identifier: Apache-2.0\npragma solidity 0.8.30;\ncontract Idle {\n function f(uint256 a) external { uint256 b = 1; }\n}";
  assert.equal(complaintsOf({ "Idle.sol": idle }).length, 3, "it would say so");
});
