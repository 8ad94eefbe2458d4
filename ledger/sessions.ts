import type { Queryable } from "../service/database.ts";

/** NOTIFY channel on which a session's take-over is announced; payload `{clientId} {generation} {worker}`. */
export const SESSION_CHANNEL = "mqtt_session";

/** A client's session as the ledger knows it: the highest generation is the one that lives. */
export interface SessionClaim {
  readonly clientId: string;
  readonly generation: bigint;
}

/**
 * Makes the sessions of these clients the worker's own, and tells whoever held one before. Ids must be distinct; they
 * are locked in order, so that two workers cannot deadlock.
 *
 * The NOTIFY is in the same statement: a claim that committed without one would leave the older session open. Commits
 * that notify wait for one another, so a worker claims for many clients at once.
 */
export async function claimSessions(
  db: Queryable,
  worker: string,
  clientIds: readonly string[],
): Promise<readonly SessionClaim[]> {
  const result = await db.query<{ client_id: string; generation: bigint }>(
    `with claimed as (
       insert into ledger.mqtt_session as s (client_id, worker, generation)
       select id, $1, 1 from unnest($2::text[]) as id order by id
       on conflict (client_id) do update set worker = excluded.worker, generation = s.generation + 1
       returning client_id, generation
     )
     select client_id, generation,
            case when generation > 1 then pg_notify($3, client_id || ' ' || generation || ' ' || $1) end
       from claimed`,
    [worker, clientIds, SESSION_CHANNEL],
  );
  return result.rows.map((row) => ({ clientId: row.client_id, generation: row.generation }));
}

/** Reads a payload of `SESSION_CHANNEL`. */
export function parseSessionNotice(payload: string): SessionClaim & { readonly worker: string } {
  const [clientId = "", generation = "0", worker = ""] = payload.split(" ");
  return { clientId, generation: BigInt(generation), worker };
}

/** The newest claims of these clients, for a worker that may have missed a notice. */
export async function findSessions(
  db: Queryable,
  clientIds: readonly string[],
): Promise<readonly SessionClaim[]> {
  const result = await db.query<{ client_id: string; generation: bigint }>(
    "select client_id, generation from ledger.mqtt_session where client_id = any($1::text[])",
    [clientIds],
  );
  return result.rows.map((row) => ({ clientId: row.client_id, generation: row.generation }));
}
