import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { startInflux } from "./influxdb.ts";
import { serversOn } from "./processes.ts";
import { VERSIONS } from "./versions.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-test-influx-"));
after(() => rm(folder, { recursive: true, force: true }));

test("InfluxDB is set up with a token of its own, and keeps what it acknowledged over a kill", async () => {
  const dataDir = join(folder, "kept");
  const server = await startInflux({ dataDir });
  const { url, org, token } = server;
  const authorization = `Token ${token}`;
  const write = async (headers: Record<string, string>): Promise<number> => {
    const address = `${url}/api/v2/write?org=${org}&bucket=unused`;
    const response = await fetch(address, { method: "POST", body: "reading,meter=m1 wh=7i", headers });
    await response.arrayBuffer();
    return response.status;
  };
  assert.equal(await write({}), 401);
  assert.equal(await write({ authorization }), 204);
  const health = (await (await fetch(`${url}/health`)).json()) as { version: string };
  assert.equal(health.version, `v${VERSIONS.influxdb}`);

  await server.kill();
  assert.deepEqual(serversOn([`${dataDir}/`]), []);
  await server.start();
  const answer = await fetch(`${url}/api/v2/query?org=${org}`, {
    method: "POST",
    headers: { authorization, "content-type": "application/vnd.flux" },
    body: 'from(bucket: "unused") |> range(start: -1h)',
  });
  assert.match(await answer.text(), /,7,wh,reading,m1/);

  await server.stop();
  assert.deepEqual(serversOn([`${dataDir}/`]), []);
  assert.equal((await stat(join(dataDir, "token"))).mode & 0o777, 0o600);
});
