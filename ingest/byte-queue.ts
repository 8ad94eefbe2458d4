const NOTHING = Buffer.alloc(0);

/**
 * Received bytes that were not handed on yet, in one piece. A chunk that meets an empty queue is kept as it is; only
 * what is left of a packet is copied, into a buffer that doubles, so that a client sending byte by byte costs linear
 * work and no object per byte.
 */
export class ByteQueue {
  #buffer: Buffer = NOTHING;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** What is held; valid until the next `append`. */
  get bytes(): Buffer {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  append(chunk: Buffer): void {
    if (this.length === 0) {
      this.#buffer = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#buffer.length - this.#end < chunk.length) {
      const larger = Buffer.allocUnsafe((this.length + chunk.length) * 2);
      this.#end = this.#buffer.copy(larger, 0, this.#start, this.#end);
      this.#start = 0;
      this.#buffer = larger;
    }
    this.#end += chunk.copy(this.#buffer, this.#end);
  }

  /** Takes the first `count` bytes out. They stay valid: later chunks are written behind them. */
  take(count: number): Buffer {
    const taken = this.#buffer.subarray(this.#start, this.#start + count);
    this.#start += count;
    if (this.length === 0) this.clear();
    return taken;
  }

  clear(): void {
    this.#buffer = NOTHING;
    this.#start = 0;
    this.#end = 0;
  }
}
