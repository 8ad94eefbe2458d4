import { Gauge, type Registry } from "prom-client";
import type { Pool } from "./database.ts";

type Pools = Map<string, Pool>;

/** The pools that each registry shows: a name is registered once, and a process has several pools. */
const SHOWN = new WeakMap<Registry, Pools>();

/**
 * Shows from now on what a pool is doing, under a name of its own. A pool that has statements waiting for long is too
 * small, or its server too slow.
 */
export function showPool(name: string, pool: Pool, metrics: Registry): void {
  const shown = SHOWN.get(metrics) ?? register(metrics);
  shown.set(name, pool);
}

function register(metrics: Registry): Pools {
  const pools: Pools = new Map();
  SHOWN.set(metrics, pools);
  metrics.registerMetric(connectionsGauge(pools));
  metrics.registerMetric(waitingGauge(pools));
  return pools;
}

function connectionsGauge(pools: Pools) {
  return new Gauge({
    name: "postgres_pool_connections",
    help: "Open connections of each pool, at work or idle",
    labelNames: ["pool", "state"] as const,
    registers: [],
    collect() {
      for (const [pool, { totalCount, idleCount }] of pools) {
        this.set({ pool, state: "active" }, totalCount - idleCount);
        this.set({ pool, state: "idle" }, idleCount);
      }
    },
  });
}

function waitingGauge(pools: Pools) {
  return new Gauge({
    name: "postgres_pool_waiting",
    help: "Statements and transactions that wait for a connection of the pool",
    labelNames: ["pool"] as const,
    registers: [],
    collect() {
      for (const [pool, { waitingCount }] of pools) this.set({ pool }, waitingCount);
    },
  });
}
