/** One page of a listing, and the key after which the next one goes on; none at the end. */
export interface Page<T, K> {
  readonly items: readonly T[];
  readonly next: K | undefined;
}

/**
 * Cuts a page from `found`, which was read with one item more than `limit`. Items of one key are never separated,
 * because the next page starts after a key: the page ends before the key that does not fit. Where one key alone
 * exceeds the limit, `readAll` reads all of its items, and the page is longer than asked.
 */
export async function cutPage<T, K>(
  found: readonly T[],
  limit: number,
  keyOf: (item: T) => K,
  readAll: (key: K) => Promise<readonly T[]>,
): Promise<Page<T, K>> {
  const overflow = found[limit];
  if (overflow === undefined) return { items: found, next: undefined };
  const cut = keyOf(overflow);
  const items = found.filter((item) => keyOf(item) !== cut);
  const last = items.at(-1);
  return last === undefined ? { items: await readAll(cut), next: cut } : { items, next: keyOf(last) };
}
