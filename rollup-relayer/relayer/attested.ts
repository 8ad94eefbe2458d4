import type { AuthoritySet, AuthoritySignature } from "../../contracts/client.ts";
import { recoverAuthority } from "../../domain/settlement/message.ts";
import type { Settlement, SettlementDomain } from "../../domain/settlement/settlement.ts";
import type { Batch } from "../../ledger/batches.ts";
import { signaturesOf } from "../../ledger/posting-queue.ts";
import type { Queryable } from "../../service/database.ts";

/** A batch with as many valid signatures as the contract asks for, ascending by authority. */
export interface AttestedBatch {
  readonly batch: Batch;
  readonly settlement: Settlement;
  readonly signatures: readonly AuthoritySignature[];
}

/**
 * The first of `batches` that k members of the current set have signed, up to the first that they have not: a region
 * is posted in order. Signatures are verified here, whoever stored them; `invalid` hears of those that are not good.
 */
export async function attestedPrefix(
  db: Queryable,
  domain: SettlementDomain,
  set: AuthoritySet,
  batches: readonly Batch[],
  invalid: (batch: Batch) => void,
): Promise<readonly AttestedBatch[]> {
  const received = await signaturesOf(db, batches, set.epoch);
  const attested: AttestedBatch[] = [];
  for (const [i, batch] of batches.entries()) {
    if (received[i]!.length < set.threshold) break;
    const settlement: Settlement = { ...batch.content, authoritySetEpoch: set.epoch };
    const signatures: AuthoritySignature[] = [];
    for (const { authority, signature } of received[i]!) {
      if (signatures.length === set.threshold) break;
      const isMember = set.members.includes(authority);
      if (isMember && recoverAuthority(domain, settlement, signature) === authority) {
        signatures.push({ authority, signature });
      } else invalid(batch);
    }
    if (signatures.length < set.threshold) break;
    attested.push({ batch, settlement, signatures });
  }
  return attested;
}
