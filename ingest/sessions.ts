import type { Meter } from "../ledger/meters.ts";
import { claimSessions, findSessions, parseSessionNotice } from "../ledger/sessions.ts";
import type { Queryable } from "../service/database.ts";
import type { PacketGate } from "./packet-gate.ts";
import { within } from "./time-limits.ts";

/** One authenticated connection of a meter. It ends with the connection: sessions are clean. */
export interface Session {
  readonly gate: PacketGate;
  readonly generation: bigint;
  /** As the registry has it now. */
  meter: Meter;
  /** QoS 2 packet identifiers between their PUBLISH and their PUBREL. */
  readonly unreleased: Set<number>;
  /** The publish that was submitted last: it settles after all others of this session. */
  last: Submitted | undefined;
}

/** A publish on its way into the log. */
export interface Submitted {
  readonly isSettled: boolean;
  /** Calls back when it is settled, after its acknowledgement. */
  afterwards(callback: () => void): void;
}

/** A client whose session is being opened, and the newest claim heard of meanwhile. */
interface Opening {
  count: number;
  heard: bigint;
}

interface Claimant {
  readonly resolve: (generation: bigint) => void;
  readonly reject: (cause: unknown) => void;
}

/** Claims of one statement at the most. */
const MAX_CLAIMS = 500;

/**
 * The sessions of this worker, at most one for each client among all workers: the newest claim in the ledger lives,
 * older ones are closed, wherever they are.
 */
export class Sessions {
  readonly #workerId: string;
  readonly #claimTimeoutMs: number;
  readonly #db: Queryable;
  readonly #open = new Map<string, Session>();
  readonly #opening = new Map<string, Opening>();
  readonly #claimants = new Map<string, Claimant[]>();
  #claiming = false;

  constructor(options: { workerId: string; claimTimeoutMs: number }, dependencies: { db: Queryable }) {
    this.#workerId = options.workerId;
    this.#claimTimeoutMs = options.claimTimeoutMs;
    this.#db = dependencies.db;
  }

  get(clientId: string): Session | undefined {
    return this.#open.get(clientId);
  }

  clientIds(): readonly string[] {
    return [...this.#open.keys()];
  }

  /**
   * Opens the session of an authenticated meter and closes the older ones. Rejects while the ledger is away. Where
   * somebody was faster the gate is closed.
   */
  async open(gate: PacketGate, meter: Meter): Promise<Session> {
    const { meterId } = meter;
    const opening = this.#opening.get(meterId) ?? { count: 0, heard: 0n };
    opening.count += 1;
    this.#opening.set(meterId, opening);
    try {
      const session: Session = {
        gate,
        generation: await within(this.#claimTimeoutMs, "claim-timeout", this.#claim(meterId)),
        meter,
        unreleased: new Set<number>(),
        last: undefined,
      };
      // A notice of a later claim can arrive before the answer to ours: they come on different connections.
      if (session.generation < opening.heard) gate.close("taken-over");
      if (!gate.destroyed) this.#replace(session);
      return session;
    } finally {
      opening.count -= 1;
      if (opening.count === 0) this.#opening.delete(meterId);
    }
  }

  /** Forgets a session whose connection is gone. */
  remove(session: Session): void {
    const { meterId } = session.meter;
    if (this.#open.get(meterId) === session) this.#open.delete(meterId);
  }

  /** Handles a notice of the session channel; `undefined` means that some may have been missed. */
  async heard(payload: string | undefined): Promise<void> {
    if (payload !== undefined) {
      const notice = parseSessionNotice(payload);
      if (notice.worker !== this.#workerId) this.#closeOlder(notice.clientId, notice.generation);
      return;
    }
    const clientIds = [...this.#open.keys(), ...this.#opening.keys()];
    for (const claim of await findSessions(this.#db, clientIds)) {
      this.#closeOlder(claim.clientId, claim.generation);
    }
  }

  #replace(session: Session): void {
    const { meterId } = session.meter;
    const older = this.#open.get(meterId);
    this.#open.set(meterId, session);
    older?.gate.close("taken-over");
  }

  #closeOlder(clientId: string, generation: bigint): void {
    const opening = this.#opening.get(clientId);
    if (opening !== undefined && opening.heard < generation) opening.heard = generation;
    const session = this.#open.get(clientId);
    if (session !== undefined && session.generation < generation) session.gate.close("taken-over");
  }

  #claim(clientId: string): Promise<bigint> {
    return new Promise((resolve, reject) => {
      const claimants = this.#claimants.get(clientId);
      if (claimants === undefined) this.#claimants.set(clientId, [{ resolve, reject }]);
      else claimants.push({ resolve, reject });
      if (!this.#claiming) void this.#claimAll();
    });
  }

  async #claimAll(): Promise<void> {
    this.#claiming = true;
    while (this.#claimants.size > 0) {
      const group = [...this.#claimants].slice(0, MAX_CLAIMS);
      for (const [clientId] of group) this.#claimants.delete(clientId);
      try {
        const claims = await claimSessions(
          this.#db,
          this.#workerId,
          group.map(([clientId]) => clientId),
        );
        const generations = new Map(claims.map(({ clientId, generation }) => [clientId, generation]));
        for (const [clientId, claimants] of group) {
          for (const { resolve } of claimants) resolve(generations.get(clientId)!);
        }
      } catch (cause) {
        for (const [, claimants] of group) for (const { reject } of claimants) reject(cause);
      }
    }
    this.#claiming = false;
  }
}
