import { between, integerBetween, keyOf, uniform } from "../../simulators/random.ts";

/**
 * What happens to a target.
 *
 * - `kill`: SIGKILL. Whoever watches over the process starts it again; a server without such a watch is started
 *   again after `forMs`.
 * - `kill-again`: SIGKILL, and once more when it has been coming back for `forMs`.
 * - `pause`: SIGSTOP for `forMs`. To everybody else the process is there and says nothing.
 * - `cut`: every connection to it is closed, and the process lives on.
 * - `outage`: SIGKILL, and it stays away for `forMs`, which may be minutes.
 */
export type FaultKind = "kill" | "kill-again" | "pause" | "cut" | "outage";

/** Shortest and longest time that a drawn fault lasts, ms. */
export interface Duration {
  readonly minMs: number;
  readonly maxMs: number;
}

/** What a plan may do to a target. */
export interface TargetSpec {
  readonly name: string;
  /** How often it is struck in a round in which a target of weight 1 is struck once. A whole number from 1 on. */
  readonly weight: number;
  /** The kinds that can be drawn for it, and how long they last. */
  readonly kinds: Readonly<Partial<Record<FaultKind, Duration>>>;
}

/** One fault of a plan. */
export interface Fault {
  readonly target: string;
  readonly kind: FaultKind;
  readonly forMs: number;
}

/** One fault, or two on different targets, the second `apartMs` after the first. */
export interface Step {
  readonly faults: readonly Fault[];
  readonly apartMs: number;
  /** Whether the next step waits until the pipeline has caught up, or comes on top of what is left to do. */
  readonly waitsForRecovery: boolean;
  /** Rest before the next step, ms. */
  readonly restMs: number;
}

/** An outage that was asked for, not drawn. */
export interface Outage {
  readonly target: string;
  readonly forMs: number;
}

export interface PlanOptions {
  /** Any text. The same options give the same plan. */
  readonly seed: string;
  /** Drawn faults; each of a pair counts. */
  readonly faults: number;
  readonly targets: readonly TargetSpec[];
  /** Outages that come besides, one by one, in the middle of the plan. */
  readonly outages: readonly Outage[];
}

const PAIR_SHARE = 0.3;
const LONGEST_APART_MS = 2000;
const RECOVERY_SHARE = 0.5;
const LONGEST_REST_MS = 2000;

/**
 * Draws the whole plan before anything runs. Targets are dealt in rounds in which each comes as often as its weight,
 * so that a plan of enough faults strikes everybody; kind, duration and company are drawn freely.
 */
export function drawPlan(options: PlanOptions): readonly Step[] {
  const { seed, faults, outages } = options;
  const dealt = dealTargets(options);
  const key = keyOf(seed, "steps");
  const steps: Step[] = [];
  for (let next = 0; next < faults;) {
    const at = steps.length;
    const partner = dealt[next + 1];
    const isPair =
      partner !== undefined && partner.name !== dealt[next]?.name && uniform(key, at, 0) < PAIR_SHARE;
    const struck = dealt.slice(next, next + (isPair ? 2 : 1));
    steps.push({
      faults: struck.map((target, index) => drawFault(seed, target, next + index)),
      apartMs: isPair ? integerBetween(key, 0, LONGEST_APART_MS, at, 1) : 0,
      waitsForRecovery: uniform(key, at, 2) < RECOVERY_SHARE,
      restMs: integerBetween(key, 0, LONGEST_REST_MS, at, 3),
    });
    next += struck.length;
  }
  const middle = outages.length === 0 ? 0 : Math.floor(steps.length / 2);
  // Everybody is well when an outage that was asked for begins, and what it costs is not blurred by the next fault.
  const before = steps.slice(0, middle).map((step, index) => {
    return index === middle - 1 ? { ...step, waitsForRecovery: true } : step;
  });
  return [...before, ...outages.map(stepOf), ...steps.slice(middle)];
}

function stepOf({ target, forMs }: Outage): Step {
  return { faults: [{ target, kind: "outage", forMs }], apartMs: 0, waitsForRecovery: true, restMs: 0 };
}

function dealTargets({ seed, faults, targets }: PlanOptions): readonly TargetSpec[] {
  // In an order of their own: in which order a machine starts its roles does not change the plan.
  const sorted = targets.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const round = sorted.flatMap((target) => Array.from({ length: target.weight }, () => target));
  const dealt: TargetSpec[] = [];
  for (let number = 0; dealt.length < faults && round.length > 0; number += 1) {
    dealt.push(...shuffled(round, keyOf(seed, "round", String(number))));
  }
  return dealt.slice(0, faults);
}

function shuffled<T>(elements: readonly T[], key: number): readonly T[] {
  return elements
    .map((element, index) => ({ element, rank: uniform(key, index) }))
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ element }) => element);
}

function drawFault(seed: string, target: TargetSpec, number: number): Fault {
  const key = keyOf(seed, "fault", String(number));
  const kinds = Object.entries(target.kinds) as [FaultKind, Duration][];
  const [kind, { minMs, maxMs }] = kinds[integerBetween(key, 0, kinds.length - 1, 0)]!;
  return { target: target.name, kind, forMs: Math.round(between(key, minMs, maxMs, 1)) };
}
