import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Context } from "../cli/context.ts";
import { commission, fleetDriver, plannedFleet } from "../cli/fleet-setup.ts";
import { Machine } from "../cli/machine.ts";
import { freePort } from "../cli/ports.ts";
import { chainFigures, countLogged, ledgerFigures } from "../cli/reconciliation.ts";
import { embeddedPostgres } from "../cli/stores.ts";
import { settleAll, waitForRoom, waitUntil } from "../cli/settling.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { SETTINGS, SETTINGS_PREFIX, type Settings } from "../service/configuration.ts";
import { readGrid } from "../service/grid.ts";
import { readSettings } from "../service/settings.ts";
import { trueExportWh } from "../simulators/fleet.ts";
import { runDay } from "../simulators/runs.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import { recorderBalance } from "../time-series/recorder-balance.ts";

const INTERVALS = 12;
const SEEDS = (process.env["GRIDROOT_TEST_SEEDS"] ?? "1").split(",");

async function contextIn(folder: string, seed: string): Promise<Context> {
  const grid = await readGrid(new URL("../config/thailand.json", import.meta.url));
  const environment = {
    GRIDROOT_DATA_DIR: folder,
    GRIDROOT_LOG_FILE: join(folder, "gridroot.log"),
    GRIDROOT_MQTT_PORT: String(await freePort()),
    GRIDROOT_HTTP_PORT: String(await freePort()),
    GRIDROOT_CHAIN_PORT: String(await freePort()),
    GRIDROOT_INGEST_WORKERS: "2",
    GRIDROOT_SEAL_GRACE_MS: "1000",
    GRIDROOT_SEED: seed,
  };
  const { PATH = "", HOME = "" } = process.env;
  return {
    settings: readSettings(SETTINGS, environment, SETTINGS_PREFIX),
    // Two regions: enough for both partitions of two topics to have owners that die.
    grid: { ...grid, regions: grid.regions.slice(0, 2) },
    adapters: {
      openEventLog: (settings, log) =>
        PostgresEventLog.open({ connectionString: settings.postgresUrl }, { log }),
      openTimeSeries: (settings, log) =>
        PostgresTimeSeries.open({ connectionString: settings.postgresUrl }, { log }),
    },
    mainFile: new URL("../main.ts", import.meta.url).pathname,
    inheritedEnvironment: { PATH, HOME },
    print: () => {},
  };
}

/** What dies after each interval, drawn from the seed: every role and the database, each at least once. */
function victims(seed: string, roles: readonly string[]): readonly string[] {
  let state = [...seed].reduce(
    (hash, character) => Math.imul(hash ^ character.charCodeAt(0), 0x01000193),
    0x811c9dc5,
  );
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const drawn = [...roles];
  for (let i = drawn.length - 1; i > 0; i -= 1) {
    const j = next(i + 1);
    [drawn[i], drawn[j]] = [drawn[j]!, drawn[i]!];
  }
  return drawn;
}

async function kill(machine: Machine, name: string, settings: Settings): Promise<void> {
  let pid = machine.children.find((child) => child.name === name)?.pid;
  if (name === "postgres") {
    const server = embeddedPostgres(settings);
    await server.attach();
    pid = await server.pid();
  }
  assert.ok(pid !== undefined, `${name} runs`);
  process.kill(pid, "SIGKILL");
}

for (const seed of SEEDS) {
  test(
    `kill -9 of every role and the database under load loses nothing and settles nothing twice, seed ${seed}`,
    { timeout: 240_000 },
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "gridroot-crash-"));
      await chmod(folder, 0o755);
      const context = await contextIn(folder, seed);
      const from = Math.floor(Date.now() / 1000 / 86_400) * 86_400 - 86_400;
      const end = from + INTERVALS * 900;
      const machine = new Machine(context, {
        resetChain: false,
        observers: {},
        regionsStartS: from,
        apart: true,
      });
      try {
        await machine.start();
        const process_ = machine.process;
        const stores = await process_.stores();
        const fleet = plannedFleet(context, {
          seed,
          secretKey: seed,
          metersPerRegion: 10,
          start: from,
          intervals: INTERVALS,
        });
        await commission(process_, fleet);
        const driver = await fleetDriver(process_, fleet, { from, lastEnd: end });
        await driver.start();
        const kills: Promise<void>[] = [];
        const order = victims(seed, [...machine.children.map(({ name }) => name), "postgres"]);
        await runDay(
          { driver, from, intervals: INTERVALS },
          {
            setIngestClock: async () => {},
            waitForRoom: (boundary) => retrying(() => waitForRoom(stores, { from, lengthS: 900 }, boundary)),
            onProgress: ({ intervalEnd }) => {
              const victim = order[(intervalEnd - from) / 900 - 1];
              if (victim !== undefined) kills.push(kill(machine, victim, context.settings));
            },
          },
        );
        await driver.stop();
        await Promise.all(kills);
        assert.equal(kills.length, order.length, "every victim died");
        await retrying(() => settleAll(machine, { from, end }));

        const truth = trueExportWh(fleet, end);
        for (const { regionId, name } of context.grid.regions) {
          const ledger = await ledgerFigures(stores.ledger, name);
          const settled = await chainFigures(await process_.chain(), regionId);
          assert.equal(ledger.creditedWh, truth.get(name), `${name}: credited`);
          assert.equal(settled.settledWh, ledger.creditedWh, `${name}: settled`);
          assert.equal(settled.settlements, ledger.batches, `${name}: settlements`);
          const { distinct } = await countLogged(stores.eventLog, name, context.settings.partitionsPerRegion);
          await waitUntil(async () => (await stores.timeSeries.countReadings(name)) >= BigInt(distinct));
          assert.equal(await stores.timeSeries.countReadings(name), BigInt(distinct), `${name}: recorded`);
          const tally = driver.tallies().get(name)!;
          assert.equal(tally.publishesAcked, tally.publishesSent, `${name}: acknowledged`);
        }
        assert.deepEqual(await recorderBalance(stores.ledger), []);
      } catch (cause) {
        const log = await readFile(join(folder, "gridroot.log"), "utf8").catch(() => "");
        console.log(log.split("\n").slice(-40).join("\n"));
        throw cause;
      } finally {
        await machine.stop();
        await rm(folder, { recursive: true, force: true });
      }
    },
  );
}

/** The database dies too: what asks it asks again. */
async function retrying<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work();
    } catch (cause) {
      if (attempt === 200) throw cause;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}
