/** What an upstream topic carries: reading, load profile, event, device data. */
export const UPSTREAM_KINDS = ["rd", "lp", "ev", "birth"] as const;
export type UpstreamKind = (typeof UPSTREAM_KINDS)[number];

/** A parsed upstream topic `mt/v1/{utility}/{region}/{meterId}/{kind}`. */
export interface UpstreamTopic {
  readonly utility: string;
  readonly region: string;
  readonly meterId: string;
  readonly kind: UpstreamKind;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Whether `text` may name a meter, utility, region or service point: 1 to 64 of letters, digits, `.`, `_`, `-`. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

/** Parses an upstream topic; `undefined` where it is none. */
export function parseUpstreamTopic(topic: string): UpstreamTopic | undefined {
  const [root, version, utility, region, meterId, kind, ...rest] = topic.split("/");
  if (root !== "mt" || version !== "v1" || rest.length > 0) return undefined;
  if (utility === undefined || region === undefined || meterId === undefined) return undefined;
  if (!isName(utility) || !isName(region) || !isName(meterId)) return undefined;
  const known = UPSTREAM_KINDS.find((candidate) => candidate === kind);
  return known === undefined ? undefined : { utility, region, meterId, kind: known };
}

/** The upstream topic of a meter. */
export function upstreamTopic({ utility, region, meterId, kind }: UpstreamTopic): string {
  return `mt/v1/${utility}/${region}/${meterId}/${kind}`;
}

/** The one topic a meter may subscribe to. */
export function commandTopic(meter: { utility: string; region: string; meterId: string }): string {
  return `mt/v1/${meter.utility}/${meter.region}/${meter.meterId}/cmd`;
}
