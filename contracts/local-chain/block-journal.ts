import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";

/** The first line: what the chain began with. */
export interface JournalHeader {
  readonly version: 1;
  readonly chainId: number;
  readonly genesisTimestampS: number;
  /** Follows from chain id, time and the funded accounts. */
  readonly genesisHash: Hex;
}

/** Every further line: one block. */
export interface JournalBlock {
  readonly number: number;
  readonly timestampS: number;
  readonly hash: Hex;
  /** Signed raw transactions in the block's order. */
  readonly transactions: readonly Hex[];
}

const NEWLINE = 0x0a;

/**
 * The blocks of the local chain, one JSON text a line, in `{folder}/journal.jsonl`. A line is durable when `append`
 * resolves. What a crash left behind the last line break was never acknowledged and is cut off by `openJournal`.
 */
export class BlockJournal {
  /** `undefined` for a journal that was never begun. */
  readonly header: JournalHeader | undefined;
  /** Bytes of an unfinished line that were cut off. */
  readonly tornBytes: number;
  readonly #file: FileHandle;
  #recorded: Buffer | undefined;
  #size: number;

  constructor(file: FileHandle, content: Buffer) {
    const complete = content.subarray(0, content.lastIndexOf(NEWLINE) + 1);
    this.#file = file;
    this.#size = complete.length;
    this.tornBytes = content.length - complete.length;
    this.header = complete.length === 0 ? undefined : readHeader(lineAt(complete, 0));
    this.#recorded = complete;
  }

  /** The blocks that were there at opening, once; throws `chain-journal-corrupt` for a line that is no block. */
  *recordedBlocks(): Generator<JournalBlock> {
    const recorded = this.#recorded ?? Buffer.alloc(0);
    this.#recorded = undefined;
    let number = 0;
    for (let from = recorded.indexOf(NEWLINE) + 1; from < recorded.length; number += 1) {
      const line = lineAt(recorded, from);
      yield readBlock(line, number + 1);
      from += line.length + 1;
    }
  }

  /** Writes the header; the chain must not be used before this resolves. */
  async begin(header: JournalHeader): Promise<void> {
    await this.#write([header]);
  }

  /** Resolves when the blocks are durable. After a rejection nothing more may be appended. */
  async append(blocks: readonly JournalBlock[]): Promise<void> {
    await this.#write(blocks);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #write(lines: readonly (JournalHeader | JournalBlock)[]): Promise<void> {
    const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    for (let written = 0; written < bytes.length;) {
      const { bytesWritten } = await this.#file.write(
        bytes,
        written,
        bytes.length - written,
        this.#size + written,
      );
      written += bytesWritten;
    }
    await this.#file.datasync();
    this.#size += bytes.length;
  }
}

/** Opens the folder's journal, creating both where missing, and cuts off an unfinished last line. */
export async function openJournal(folder: string): Promise<BlockJournal> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, "journal.jsonl");
  const file = await open(path, "a+").then(async (created) => {
    await created.close();
    return open(path, "r+");
  });
  try {
    const journal = new BlockJournal(file, await file.readFile());
    if (journal.tornBytes > 0) {
      await file.truncate((await file.stat()).size - journal.tornBytes);
      await file.sync();
    }
    await syncFolder(folder);
    await syncFolder(dirname(folder));
    return journal;
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

// A file that its folder does not name yet would be gone after a power failure, synced or not.
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function lineAt(content: Buffer, from: number): string {
  return content.toString("latin1", from, content.indexOf(NEWLINE, from));
}

function readHeader(line: string): JournalHeader {
  const header = parse(line) as JournalHeader | undefined;
  if (header?.version !== 1) throw corrupt("its header is unreadable");
  return header;
}

function readBlock(line: string, number: number): JournalBlock {
  const block = parse(line) as JournalBlock | undefined;
  if (block?.number !== number) throw corrupt(`the line of block ${number} is unreadable`);
  return block;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // What is wrong is said by the caller, who knows which line it was.
    return undefined;
  }
}

function corrupt(why: string): GridrootError {
  return new GridrootError("chain-journal-corrupt", `the chain's journal cannot be replayed: ${why}`);
}
