import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { after, suite, test } from "node:test";
import pino from "pino";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { INGEST_FAULT_POINTS } from "./ingest.ts";
import { addMeters, loggedSeqs, openBackend } from "./tests/ingest-under-test.ts";
import { LoadMeter } from "./tests/load-meter.ts";

const WORKER = new URL("./tests/worker-process.ts", import.meta.url);
const url = await createTestDatabase();
const backend = await openBackend(url);
const eventLog = await PostgresEventLog.open({ connectionString: url }, { log: pino({ level: "silent" }) });
const workers: ChildProcess[] = [];
after(async () => {
  for (const worker of workers) worker.kill("SIGKILL");
  await eventLog.close();
  await backend.close();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function startWorker(port: number, faultPoint: string): Promise<ChildProcess> {
  const child = fork(WORKER, [url, String(port), faultPoint], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  workers.push(child);
  // A fault point may be passed before the worker has said that it listens.
  await Promise.race([once(child, "message"), once(child, "exit")]);
  return child;
}

/**
 * The pass of a fault point at which the worker dies: from the seed, so that each seed kills elsewhere. At most the
 * number of meters, for each opens only one session.
 */
function occurrence(seed: number, at: number): number {
  return 1 + ((seed * 7919 + at * 104_729) % 4);
}

suite("kill -9 of a worker", { concurrency: true }, () => {
  for (const seed of [1, 2]) {
    test(`at each fault point under load loses no acknowledged reading and keeps each meter's order (seed ${seed})`, async () => {
      const port = await freePort();
      const meters = [1, 2, 3, 4].map(
        (index) => new LoadMeter({ meterId: `s${seed}-m${index}`, port, qos: index % 2 === 0 ? 2 : 1 }),
      );
      after(() => meters.forEach((meter) => meter.abandon()));
      await addMeters(backend.pool, ...meters.map(({ meterId }) => meterId));
      const running = Promise.all(meters.map((meter) => meter.run()));
      for (const [at, point] of INGEST_FAULT_POINTS.entries()) {
        const dying = await startWorker(port, `${point}:${occurrence(seed, at)}`);
        if (dying.signalCode === null) await once(dying, "exit");
        assert.equal(dying.signalCode, "SIGKILL", point);
      }
      const surviving = await startWorker(port, "");
      for (const meter of meters) meter.finish();
      await running;
      surviving.kill("SIGKILL");
      for (const { meterId, acknowledged } of meters) {
        const firsts = [...new Set(await loggedSeqs(eventLog, meterId))];
        assert.ok(acknowledged.size > 0);
        assert.deepEqual(
          [...acknowledged].filter((seq) => !firsts.includes(seq)),
          [],
          "acknowledged, but not in the log",
        );
        assert.deepEqual(
          firsts,
          firsts.map((_, index) => index + 1),
          "in the order of the meter",
        );
      }
    });
  }
});
