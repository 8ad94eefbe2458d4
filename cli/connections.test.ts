import assert from "node:assert/strict";
import { test } from "node:test";
import { SETTINGS } from "../service/configuration.ts";
import { readSettings } from "../service/settings.ts";
import { poolSize, processConnections } from "./connections.ts";
import { ROLES } from "./roles.ts";

const embedded = readSettings(SETTINGS, {}, "GRIDROOT_");
const distributed = readSettings(
  SETTINGS,
  { GRIDROOT_PROFILE: "distributed", GRIDROOT_POSTGRES_REPLICA_URL: "postgres://replica/gridroot" },
  "GRIDROOT_",
);

test("roles of one process share a pool as large as theirs together, unless a setting says how large", () => {
  assert.equal(poolSize(embedded, ["relayer"]), 2);
  assert.equal(poolSize(embedded, ["recorder", "relayer", "api"]), 14);
  assert.equal(poolSize(embedded, []), 2);
  assert.equal(poolSize({ ...embedded, postgresMaxConnections: 3 }, ["aggregator"]), 3);
});

test("sessions of backends that are elsewhere do not count, those of LISTEN always do", () => {
  assert.deepEqual(processConnections(embedded, ["aggregator"]), { pooled: 8, direct: 16, replica: 0 });
  assert.deepEqual(processConnections(distributed, ["aggregator"]), { pooled: 8, direct: 2, replica: 0 });
  assert.deepEqual(processConnections(distributed, ["api"]), { pooled: 12, direct: 0, replica: 8 });
});

test("one of each embedded role, and four workers, fit the embedded server", () => {
  const workers = Array.from({ length: 4 }, () => ["ingest"] as const);
  const authorities = Array.from({ length: 3 }, () => ["authority"] as const);
  const processes = [
    ["recorder", "relayer", "api"] as const,
    ["aggregator"] as const,
    ...workers,
    ...authorities,
  ];
  const total = processes
    .map((roles) => processConnections(embedded, roles))
    .reduce((sum, { pooled, direct }) => sum + pooled + direct, 0);
  assert.ok(total < 190, `${total} connections`);
  assert.deepEqual(processConnections(embedded, ["chain"]), { pooled: 0, direct: 0, replica: 0 });
  for (const role of ROLES) assert.ok(poolSize(embedded, [role]) >= 2);
});
