import { announceReady, leaveParent, type Question, serveParent } from "../service/child-process.ts";
import { GridrootError } from "../service/errors.ts";
import { Lifecycle } from "../service/lifecycle.ts";
import { processConnections } from "./connections.ts";
import type { Context } from "./context.ts";
import { Probe } from "./probe.ts";
import { RoleProcess } from "./role-process.ts";
import { type Role, servicesOf } from "./roles.ts";
import { stopOnSignal } from "./signals.ts";

/** How long an orderly stop may take before the process ends anyway. */
const STOP_WITHIN_MS = 30_000;

/**
 * Runs roles in this process until it is told to stop: by a signal, or by the parent that forked it. Announces itself
 * to such a parent once all are up, and answers its questions. Rejects, after an orderly stop, with what a role fails
 * with: whoever watches over the process starts it again.
 */
export async function runRoles(context: Context, roles: readonly Role[]): Promise<void> {
  let failure: GridrootError | undefined;
  const fail = (cause: GridrootError): void => {
    failure = cause;
    stopped.request();
  };
  const process_ = new RoleProcess(context, roles.join("+"), { roles, fail });
  const lifecycle = new Lifecycle({ log: process_.log });
  const stopped = stopOnSignal(
    { withinMs: STOP_WITHIN_MS, obeySignals: process.send === undefined },
    async () => {
      await lifecycle.stop();
      await process_.close();
      leaveParent();
    },
  );
  serveParent({ answer: (question) => answer(process_, question), stop: () => stopped.request() });
  let up = false;
  try {
    const { probeHost: host, probePort: port } = context.settings;
    // A parent asks its children itself.
    if (port !== 0 && process.send === undefined)
      await lifecycle.start(new Probe({ host, port }, { metrics: process_.metrics, isUp: () => up }));
    for (const role of roles) {
      for (const service of await servicesOf(role, process_)) await lifecycle.start(service);
    }
    up = true;
    announceReady();
    process_.log.info(
      { roles, postgresConnections: processConnections(context.settings, roles) },
      "roles are up",
    );
  } catch (cause) {
    announceReady(cause as Error);
    const wasTold = stopped.requested;
    stopped.request();
    await stopped.done;
    // A start that was interrupted has not failed.
    if (!wasTold) throw cause;
    return;
  }
  await stopped.done;
  if (failure !== undefined) throw failure;
}

async function answer(process_: RoleProcess, question: Question): Promise<unknown> {
  switch (question.ask) {
    case "metrics":
      return process_.metrics.getMetricsAsJSON();
    case "clock":
      process_.setClock(question.nowMs);
      return undefined;
    case "mine":
      await process_.mine(question.blocks);
      return undefined;
    case "stop":
      throw new GridrootError("invariant", "a stop is not answered");
  }
}
