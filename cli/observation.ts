import {
  AggregatorRegistry,
  type MetricObjectWithValues,
  type MetricValue,
  type Registry,
} from "prom-client";
import { DEAD_LETTER_TOPIC } from "../event-log/topics.ts";
import type { RoleProcess } from "./role-process.ts";

/** Whether a dependency works, and if not, why. */
export interface Readiness {
  readonly ok: boolean;
  readonly reason?: string;
}

type CollectedMetrics = MetricObjectWithValues<MetricValue<string>>[];

/** How long a dependency may take to answer before it counts as away. */
const ANSWER_WITHIN_MS = 2000;

/** The metrics of this process and its children in the Prometheus text format; a silent child is left out. */
export async function metricsOfAll(process_: RoleProcess): Promise<string> {
  const answers = await Promise.all(
    process_.children().map((child) =>
      child.ask({ ask: "metrics" }).then(
        (answer) => [answer as CollectedMetrics],
        () => [],
      ),
    ),
  );
  const own = (await process_.metrics.getMetricsAsJSON()) as CollectedMetrics;
  const all: Registry = AggregatorRegistry.aggregate([own, ...answers.flat()]);
  return all.metrics();
}

/** Every dependency and child process of this process. */
export async function readinessOf(process_: RoleProcess): Promise<Record<string, Readiness>> {
  const { provider } = await process_.chain();
  const checks: Record<string, () => Promise<unknown>> = {
    ledger: async () => (await process_.ledger()).query("select 1"),
    eventLog: async () => (await process_.eventLog()).bounds({ topic: DEAD_LETTER_TOPIC, partition: 0 }),
    timeSeries: async () => (await process_.timeSeries()).readings("none", { from: 0, to: 0 }, 1),
    chain: () => provider.getBlockNumber(),
  };
  for (const child of process_.children()) {
    checks[child.name] = async () => {
      if (child.pid === undefined) throw new Error("the process is not running");
    };
  }
  const entries = Object.entries(checks).map(async ([name, check]) => [name, await answers(check)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function answers(check: () => Promise<unknown>): Promise<Readiness> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Readiness>((resolve) => {
    timer = setTimeout(
      () => resolve({ ok: false, reason: `no answer within ${ANSWER_WITHIN_MS} ms` }),
      ANSWER_WITHIN_MS,
    );
  });
  const asked = check().then(
    (): Readiness => ({ ok: true }),
    (cause: unknown): Readiness => ({ ok: false, reason: (cause as Error).message }),
  );
  try {
    return await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}
