import type { ChildProcess } from "node:child_process";
import type { PartitionHandler, Position } from "../../event-log/event-log.ts";

/** What a member asks of the ledger. */
export type FencedCall =
  | { readonly call: "assigned" | "began" | "revoked"; readonly partition: number }
  | {
      readonly call: "store";
      readonly partition: number;
      readonly fence: number;
      readonly from: bigint;
      readonly position: Position;
    };

/** The answer to the call of that id. */
export interface FencedReply {
  readonly id: number;
  readonly position?: Position | undefined;
  readonly fence?: number;
  readonly stored?: boolean;
}

/** Positions and fences of one topic as the ledger keeps them: who takes over increments the fence. */
export class FencedLedger {
  readonly positions = new Map<number, Position>();
  /** Writes of former owners. */
  refused = 0;
  readonly #fences = new Map<number, number>();

  takeOver(partition: number): { position: Position | undefined; fence: number } {
    const fence = (this.#fences.get(partition) ?? 0) + 1;
    this.#fences.set(partition, fence);
    return { position: this.positions.get(partition), fence };
  }

  /** False, and nothing stored, unless the owner goes on exactly where the ledger stands. */
  store(partition: number, fence: number, from: bigint, position: Position): boolean {
    const expected = this.positions.get(partition)?.nextOffset ?? 0n;
    const stored = this.#fences.get(partition) === fence && from === expected;
    if (stored) this.positions.set(partition, position);
    else this.refused += 1;
    return stored;
  }

  /** The offset up to which a partition is consumed. */
  reached(partition: number): bigint {
    return this.positions.get(partition)?.nextOffset ?? 0n;
  }

  /** A handler of this process that stores here. */
  handler(): PartitionHandler & { readonly owned: Set<number> } {
    const fences = new Map<number, number>();
    const owned = new Set<number>();
    return {
      owned,
      assigned: ({ partition }) => {
        owned.add(partition);
        const { position, fence } = this.takeOver(partition);
        fences.set(partition, fence);
        return Promise.resolve(position);
      },
      records: ({ partition, records, positionAfter }) => {
        const fence = fences.get(partition)!;
        const stored = this.store(partition, fence, records[0]!.offset, positionAfter(records.at(-1)!));
        return stored ? Promise.resolve() : Promise.reject(new Error("somebody else has taken over"));
      },
      revoked: ({ partition }) => {
        owned.delete(partition);
        return Promise.resolve();
      },
      halted() {},
    };
  }

  /** Answers a member in a process of its own; `began` waits for the gate. Returns the list of its calls, as it grows. */
  serve(child: ChildProcess, gate: { readonly open: () => Promise<void> }): readonly string[] {
    const calls: string[] = [];
    const answer = async (call: FencedCall): Promise<Omit<FencedReply, "id">> => {
      calls.push(`${call.call} ${call.partition}`);
      if (call.call === "assigned") return this.takeOver(call.partition);
      if (call.call === "began") await gate.open();
      if (call.call !== "store") return {};
      return { stored: this.store(call.partition, call.fence, call.from, call.position) };
    };
    child.on("message", (message: FencedCall & { id: number }) => {
      void answer(message).then((reply) => child.send({ id: message.id, ...reply }));
    });
    return calls;
  }
}
