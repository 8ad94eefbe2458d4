import { type DestinationStream, destination, type Logger, pino } from "pino";

/** Fields that may carry a secret wherever they stand; they are never written. */
const SECRET_FIELDS = ["password", "secret", "privateKey", "*.password", "*.secret", "*.privateKey"];

/**
 * The program's logger: JSON lines with constant messages, to a file or to standard error. `role` names the process
 * in every line.
 */
export function openLog(options: { level: string; file: string; role: string }): Logger {
  const stream: DestinationStream = destination(
    options.file === ""
      ? { dest: 2, sync: true }
      : { dest: options.file, mkdir: true, sync: true, append: true },
  );
  return pino(
    {
      level: options.level,
      base: { role: options.role, pid: process.pid },
      redact: { paths: SECRET_FIELDS, remove: true },
    },
    stream,
  );
}
