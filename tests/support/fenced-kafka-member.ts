// A member of a group in a process of its own, whose ledger is its parent: it asks for positions and fences, and what it
// has consumed counts once the parent has stored it. Tells what it does. Arguments: options of the log as JSON, group, topic.
import pino from "pino";
import { KafkaEventLog, type KafkaEventLogOptions } from "../../event-log/kafka/kafka-event-log.ts";
import type { FencedCall, FencedReply } from "./fenced-ledger.ts";

const [options = "", group = "", topic = ""] = process.argv.slice(2);
const pending = new Map<number, (reply: FencedReply) => void>();
const fences = new Map<number, number>();
let calls = 0;

process.on("message", (reply: FencedReply) => {
  pending.get(reply.id)?.(reply);
  pending.delete(reply.id);
});

function ask(call: FencedCall): Promise<FencedReply> {
  const { promise, resolve } = Promise.withResolvers<FencedReply>();
  calls += 1;
  pending.set(calls, resolve);
  process.send?.({ id: calls, ...call });
  return promise;
}

const log = await KafkaEventLog.open(JSON.parse(options) as KafkaEventLogOptions, {
  log: pino({ level: "silent" }),
});
await log.join(group, [topic], {
  async assigned({ partition }) {
    const { position, fence } = await ask({ call: "assigned", partition });
    fences.set(partition, fence!);
    return position;
  },
  // Does not look at its signal, as a handler that is at its last statement does not.
  async records({ partition, records, positionAfter }) {
    const fence = fences.get(partition)!;
    await ask({ call: "began", partition });
    const [from, position] = [records[0]!.offset, positionAfter(records.at(-1)!)];
    const { stored } = await ask({ call: "store", partition, fence, from, position });
    if (stored !== true) throw new Error("somebody else has taken over");
  },
  async revoked({ partition }) {
    await ask({ call: "revoked", partition });
  },
  halted() {},
});
