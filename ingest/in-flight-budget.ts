/**
 * What all clients of a worker may have in flight. A reader that finds no room waits its turn; whatever is given
 * back goes to those who wait, first come first served.
 */
export class InFlightBudget {
  readonly #maxPackets: number;
  readonly #maxBytes: number;
  readonly #waiting = new Set<() => void>();
  #packets = 0;
  #bytes = 0;

  constructor(options: { maxPackets: number; maxBytes: number }) {
    this.#maxPackets = options.maxPackets;
    this.#maxBytes = options.maxBytes;
  }

  get packets(): number {
    return this.#packets;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes room for one packet; `false` where there is none. */
  tryTake(bytes: number): boolean {
    if (!this.#hasRoom(bytes)) return false;
    this.#packets += 1;
    this.#bytes += bytes;
    return true;
  }

  giveBack(packets: number, bytes: number): void {
    this.#packets -= packets;
    this.#bytes -= bytes;
    // Whoever finds too little room again waits at the end, where this loop would meet it once more: each is asked once.
    let unasked = this.#waiting.size;
    for (const wake of this.#waiting) {
      if (unasked === 0 || !this.#hasRoom(1)) break;
      unasked -= 1;
      this.#waiting.delete(wake);
      wake();
    }
  }

  /** Calls `wake` once when there may be room. The same function waits only once. */
  wait(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }

  #hasRoom(bytes: number): boolean {
    return this.#packets < this.#maxPackets && this.#bytes + bytes <= this.#maxBytes;
  }
}
