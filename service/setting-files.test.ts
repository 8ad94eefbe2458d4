import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SETTINGS, SETTINGS_PREFIX } from "./configuration.ts";
import { withSettingFiles } from "./setting-files.ts";
import { readSettings } from "./settings.ts";

const folder = mkdtempSync(join(tmpdir(), "gridroot-setting-files-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

const read = (environment: NodeJS.Dict<string>) =>
  readSettings(SETTINGS, withSettingFiles(SETTINGS, environment), SETTINGS_PREFIX);

test("a setting may come from a file, without the line end that editors leave", () => {
  const settings = read({
    GRIDROOT_RELAYER_KEY_FILE: file("relayer-key", "0xabc\n"),
    GRIDROOT_POSTGRES_URL_FILE: file("postgres-url", "postgres://u:p@h/d"),
    GRIDROOT_CONTRACT_ADDRESS_FILE: "",
  });
  assert.equal(settings.relayerKey, "0xabc");
  assert.equal(settings.postgresUrl, "postgres://u:p@h/d");
  assert.equal(settings.contractAddress, "");
});

test("settings whose own name ends so are not taken for files of a setting", () => {
  const settings = read({ GRIDROOT_LOG_FILE: join(folder, "none.log"), GRIDROOT_GRID_FILE: "grid.json" });
  assert.equal(settings.logFile, join(folder, "none.log"));
  assert.equal(settings.gridFile, "grid.json");
});

test("files that cannot be read and settings given twice are all named, and no content is repeated", () => {
  const twice = file("twice", "hunter2");
  const environment = {
    GRIDROOT_INFLUX_TOKEN_FILE: twice,
    GRIDROOT_INFLUX_TOKEN: "hunter3",
    GRIDROOT_REDIS_URL_FILE: join(folder, "missing"),
  };
  assert.throws(
    () => read(environment),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, "settings-invalid");
      assert.match(error.message, /^GRIDROOT_INFLUX_TOKEN_FILE: /m);
      assert.match(error.message, /^GRIDROOT_REDIS_URL_FILE: /m);
      assert.doesNotMatch(error.message, /hunter/);
      return true;
    },
  );
});

test("a misspelt file variable is no setting", () => {
  assert.throws(() => read({ GRIDROOT_RELAYER_KEYS_FILE: file("other", "x") }), /GRIDROOT_RELAYER_KEYS_FILE/);
});
