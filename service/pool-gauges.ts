import { Gauge, type Registry } from "prom-client";
import type { Pool } from "./database.ts";

/** Shows what pools are doing. One that has statements waiting for long is too small, or its server too slow. */
export class PoolGauges {
  readonly #pools = new Map<string, Pool>();

  constructor(metrics: Registry) {
    metrics.registerMetric(connectionsGauge(this.#pools));
    metrics.registerMetric(waitingGauge(this.#pools));
  }

  /** Shows a pool from now on, under a name of its own. */
  watch(name: string, pool: Pool): void {
    this.#pools.set(name, pool);
  }
}

function connectionsGauge(pools: ReadonlyMap<string, Pool>) {
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

function waitingGauge(pools: ReadonlyMap<string, Pool>) {
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
