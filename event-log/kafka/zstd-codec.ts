import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import kafkajs from "kafkajs";

// Of this CommonJS module Node finds only some exports by name.
const { CompressionCodecs, CompressionTypes } = kafkajs;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Most bytes that one batch may unpack to: far above what an append or a broker's batch can hold. */
const MAX_BATCH_BYTES = 268_435_456;

let registered = false;

/** Teaches kafkajs zstd, which it knows by number only. Off the event loop; once per process. */
export function registerZstd(): void {
  if (registered) return;
  registered = true;
  // The declared type asks for `Buffer`; what kafkajs hands over is its encoder, whose `buffer` is the bytes.
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: (encoder: { buffer: Buffer }) => compress(encoder.buffer),
    decompress: (packed: Buffer) => decompress(packed, { maxOutputLength: MAX_BATCH_BYTES }),
  });
}
