import { promisify } from "node:util";
import { zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from "node:zlib";
import kafkajs from "kafkajs";

// Of this CommonJS module Node finds only some exports by name.
const { CompressionCodecs, CompressionTypes } = kafkajs;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Most bytes that one batch may unpack to: far above what an append or a broker's batch can hold. */
const MAX_BATCH_BYTES = 268_435_456;

/**
 * Up to so many bytes a batch is packed or unpacked at once, in some 50 us: giving it to another thread costs thrice
 * that.
 */
const SMALL_UNPACKED_BYTES = 32_768;
const SMALL_PACKED_BYTES = 4_096;

/** More than zstd adds to data that it cannot pack. */
const PACKING_BYTES = 8_192;

let registered = false;

/** Teaches kafkajs zstd, which it knows by number only. Large batches are packed off the event loop. Idempotent. */
export function registerZstd(): void {
  if (registered) return;
  registered = true;
  // The declared type asks for `Buffer`; what kafkajs hands over is its encoder, whose `buffer` is the bytes.
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    async compress({ buffer }: { buffer: Buffer }) {
      // Told the size, zstd makes tables to match; the output fits into one piece even if nothing can be saved.
      const sizes = { pledgedSrcSize: buffer.length, chunkSize: buffer.length + PACKING_BYTES };
      return buffer.length <= SMALL_UNPACKED_BYTES
        ? zstdCompressSync(buffer, sizes)
        : await compress(buffer, sizes);
    },
    async decompress(packed: Buffer) {
      const limits = { maxOutputLength: MAX_BATCH_BYTES };
      return packed.length <= SMALL_PACKED_BYTES
        ? zstdDecompressSync(packed, limits)
        : await decompress(packed, limits);
    },
  });
}
