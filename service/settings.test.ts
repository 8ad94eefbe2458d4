import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { requireRelations, SETTINGS, SETTINGS_PREFIX } from "./configuration.ts";
import { exampleEnvironment, integer, readSettings, redacted, secret, url } from "./settings.ts";

const few = {
  portNumber: integer({ name: "X_PORT", min: 1, max: 65_535, default: 80, sentence: "A port." }),
  store: url({ name: "X_STORE_URL", schemes: ["postgres"], default: "", sentence: "A store." }),
  key: secret({ name: "X_KEY", sentence: "A key." }),
};

test("what is not set takes its default", () => {
  assert.deepEqual(readSettings(few, {}, "X_"), { portNumber: 80, store: "", key: "" });
});

test("all faults are reported together, each by the name of its setting", () => {
  const environment = { X_PORT: "0", X_STORE_URL: "mysql://u:hunter2@h/d", X_PROT: "81", OTHER: "kept out" };
  assert.throws(
    () => readSettings(few, environment, "X_"),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, "settings-invalid");
      for (const name of ["X_PORT", "X_STORE_URL", "X_PROT"])
        assert.match(error.message, new RegExp(`^${name}: `, "m"));
      assert.doesNotMatch(error.message, /hunter2|OTHER/);
      return true;
    },
  );
});

for (const bad of ["", "1e3", "80.0", " 80", "65536", "-1", "0x50", "many"]) {
  test(`${JSON.stringify(bad)} is no port`, () => {
    assert.throws(() => readSettings(few, { X_PORT: bad }, "X_"), /X_PORT/);
  });
}

test("shown settings hide secrets and the passwords in URLs", () => {
  const values = readSettings(few, { X_KEY: "0xabc", X_STORE_URL: "postgres://u:hunter2@h/d" }, "X_");
  assert.deepEqual(redacted(few, values), {
    X_PORT: 80,
    X_STORE_URL: "postgres://u:hidden@h/d",
    X_KEY: "(set)",
  });
});

test("every setting has a name of its own with the prefix, a sentence, and no secret has a default", () => {
  const names = new Set<string>();
  for (const setting of Object.values(SETTINGS)) {
    assert.ok(setting.name.startsWith(SETTINGS_PREFIX), setting.name);
    assert.ok(!names.has(setting.name), setting.name);
    names.add(setting.name);
    assert.match(setting.sentence, /^[A-Z].*\.$/, setting.name);
    if (setting.secret) assert.equal(setting.fallback, "", setting.name);
    else assert.doesNotThrow(() => setting.parse(setting.fallback), setting.name);
  }
});

const unrelated: [Record<string, string>, string][] = [
  [
    { GRIDROOT_RAW_RETENTION_DAYS: "100", GRIDROOT_ROLLUP_RETENTION_DAYS: "99" },
    "GRIDROOT_ROLLUP_RETENTION_DAYS",
  ],
  [
    { GRIDROOT_RAW_RETENTION_DAYS: "31", GRIDROOT_CLOCK_BEHIND_MAX_S: "2764800" },
    "GRIDROOT_CLOCK_BEHIND_MAX_S",
  ],
  [{ GRIDROOT_SEAL_GRACE_MS: "2700000" }, "GRIDROOT_SEAL_GRACE_MS"],
];

for (const [environment, name] of unrelated) {
  test(`settings that contradict one another are refused by name: ${name}`, () => {
    const settings = readSettings(SETTINGS, environment, SETTINGS_PREFIX);
    assert.throws(() => requireRelations(settings, 900), new RegExp(name));
  });
}

test("the defaults contradict nothing", () => {
  requireRelations(readSettings(SETTINGS, {}, SETTINGS_PREFIX), 900);
});

test(".env.example is the one that the settings generate", async () => {
  const file = await readFile(new URL("../.env.example", import.meta.url), "utf8");
  assert.equal(file, exampleEnvironment(SETTINGS), "run `npm run env:example`");
});
