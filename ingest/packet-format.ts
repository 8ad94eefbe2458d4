/** What ingest reads of an MQTT 3.1.1 packet before it is whole: its fixed header (section 2.2). */

/** Control packet types, the high four bits of the first byte. */
export const PACKET_TYPE = {
  connect: 1,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  unsubscribe: 10,
  pingreq: 12,
  disconnect: 14,
} as const;

const FROM_CLIENTS: ReadonlySet<number> = new Set(Object.values(PACKET_TYPE));

/** The packet's type. */
export function packetType(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) >> 4;
}

/** Whether a client may send a packet of that type. */
export function isFromClient(type: number): boolean {
  return FROM_CLIENTS.has(type);
}

/**
 * Length in bytes of the packet that begins at `at`, fixed header included; 0 while its length field is not whole,
 * -1 where that field has more than four bytes [MQTT-2.2.3]. A number and no object: it runs once for each packet.
 */
export function packetBytes(bytes: Uint8Array, at: number): number {
  let remaining = 0;
  for (let index = 1; index <= 4; index += 1) {
    const byte = bytes[at + index];
    if (byte === undefined) return 0;
    remaining += (byte & 0x7f) * 128 ** (index - 1);
    if (byte < 0x80) return 1 + index + remaining;
  }
  return -1;
}

/** The remaining length of the whole packet of `length` bytes at `at`: without its fixed header. */
export function remainingBytes(bytes: Uint8Array, at: number, length: number): number {
  let header = 2;
  while ((bytes[at + header - 1] ?? 0) >= 0x80) header += 1;
  return length - header;
}

/**
 * Whether topic and packet identifier of a PUBLISH lie inside the packet. The parser behind the gate checks the
 * topic only, and would take the identifier from the packet that follows.
 */
export function isPublishWhole(bytes: Uint8Array, at: number, length: number): boolean {
  const remaining = remainingBytes(bytes, at, length);
  const topicAt = at + length - remaining;
  const topicBytes = ((bytes[topicAt] ?? 0) << 8) | (bytes[topicAt + 1] ?? 0);
  const withIdentifier = ((bytes[at] ?? 0) & 0b110) !== 0;
  return 2 + topicBytes + (withIdentifier ? 2 : 0) <= remaining;
}
