import { setTimeout as delay } from "node:timers/promises";
import { Type } from "typebox";
import { Problem } from "./problem.ts";
import type { TypedApp } from "./typed-app.ts";

/** Whether a dependency can be used, and why not. */
export interface DependencyState {
  readonly ok: boolean;
  readonly reason?: string;
}

/** What the operational routes ask. */
export interface OperationalDependencies {
  /** Each dependency by its name. */
  readonly readiness: () => Promise<Readonly<Record<string, DependencyState>>>;
  /** All metrics of the program in Prometheus' text form. */
  readonly metricsText: () => Promise<string>;
}

/** Liveness, readiness, metrics and the OpenAPI document. */
export function operationalRoutes(
  app: TypedApp,
  options: { readonly readyWithinMs: number },
  { readiness, metricsText }: OperationalDependencies,
): void {
  app.get(
    "/health",
    {
      schema: {
        summary: "The process lives",
        tags: ["operation"],
        response: { 200: Type.Object({ status: Type.Literal("ok") }) },
      },
    },
    () => ({ status: "ok" as const }),
  );

  const states = Type.Object({
    ready: Type.Boolean(),
    dependencies: Type.Record(
      Type.String(),
      Type.Object({ ok: Type.Boolean(), reason: Type.Optional(Type.String()) }),
    ),
  });
  app.get(
    "/ready",
    {
      schema: {
        summary: "Each dependency, and why it cannot be used; 503 where one cannot",
        tags: ["operation"],
        response: { 200: states, 503: states },
      },
    },
    async (_request, reply) => {
      const dependencies = await withinBound(readiness(), options.readyWithinMs);
      const ready = Object.values(dependencies).every((state) => state.ok);
      return reply.code(ready ? 200 : 503).send({ ready, dependencies });
    },
  );

  app.get(
    "/metrics",
    {
      schema: { summary: "Metrics in Prometheus' text form", tags: ["operation"], produces: ["text/plain"] },
    },
    async (_request, reply) => {
      const text = await metricsText().catch(() => {
        throw new Problem(503, "metrics-unavailable", "a process did not tell its metrics");
      });
      return reply.type("text/plain; version=0.0.4; charset=utf-8").send(text);
    },
  );

  app.get("/api/v1/openapi.json", { schema: { hide: true } }, () => app.swagger());
}

/** A dependency that never answers must not keep the probe waiting. */
async function withinBound(
  states: Promise<Readonly<Record<string, DependencyState>>>,
  boundMs: number,
): Promise<Readonly<Record<string, DependencyState>>> {
  const abort = new AbortController();
  const late = delay(boundMs, undefined, { signal: abort.signal }).then(() => ({
    readiness: { ok: false, reason: `no answer within ${boundMs} ms` },
  }));
  late.catch(() => {});
  try {
    return await Promise.race([states, late]);
  } finally {
    abort.abort();
  }
}
