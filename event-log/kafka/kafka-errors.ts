/**
 * Kafka's names of what went wrong, such as `NOT_LEADER_FOR_PARTITION`, anywhere in an error of kafkajs, which wraps
 * the broker's answer in errors of its own.
 */
export function errorTypes(error: unknown): ReadonlySet<string> {
  const types = new Set<string>();
  collect(error, types, 0);
  return types;
}

/** Deeper than kafkajs ever wraps. */
const MAX_DEPTH = 8;

function collect(error: unknown, types: Set<string>, depth: number): void {
  if (typeof error !== "object" || error === null || depth > MAX_DEPTH) return;
  const { type, cause, originalError, errors, partitions, error: inner } = error as Record<string, unknown>;
  if (typeof type === "string") types.add(type);
  const several = [errors, partitions].flatMap((list) => (Array.isArray(list) ? (list as unknown[]) : []));
  for (const one of [cause, originalError, inner, ...several]) collect(one, types, depth + 1);
}
