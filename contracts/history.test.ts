import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Wallet } from "ethers/wallet";
import { wh } from "../domain/metering/units.ts";
import { type SettlementContent, recordOf } from "../domain/settlement/message.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { type SettlementFunctions, settlementAbi } from "./artifact.ts";
import { type ModelRotation, type Outcome, SettlementModel } from "./test/settlement-model.ts";
import {
  type WindowChain,
  memberWallets,
  signedPost,
  signedRotation,
  signedSettlement,
  signedVeto,
  startWindowChain,
} from "./test/window-chain.ts";

const SEED = 20_261_121;
const LENGTH_S = 900;
const WINDOW_S = 129_600;
const START = 1_800_000_000;
const REGIONS = [1, 2];
const CAP_WH = 1_000n;
const STATUSES = ["unknown", "pending", "claimable", "dropped"] as const;

/** The wallets of whoever is a member at some time. */
const WALLETS = memberWallets(9);
const addressOf = (wallet: Wallet): string => wallet.address.toLowerCase();
const INITIAL = {
  members: WALLETS.slice(0, 5).map(addressOf),
  threshold: 3,
  vetoThreshold: 2,
};

/** What happens next; the numbers choose among what there is. */
const KINDS = [
  ..."post post post post post post post post post post again again veto veto veto veto".split(" "),
  ..."rule rule rule rule reopen reopen report pause resume resume reinstate reinstate".split(" "),
  ..."propose propose execute execute execute cancel rotate".split(" "),
] as const;
const actions = fc.record({
  kind: fc.constantFrom(...KINDS),
  region: fc.constantFrom(...REGIONS),
  afterS: fc.oneof(
    { weight: 6, arbitrary: fc.nat(2 * LENGTH_S) },
    { weight: 1, arbitrary: fc.nat(3 * WINDOW_S) },
  ),
  choice: fc.nat(1_000),
  other: fc.nat(1_000),
  signers: fc.array(fc.nat(4), { minLength: 1, maxLength: 5 }),
  others: fc.array(fc.nat(4), { minLength: 1, maxLength: 5 }),
  /** Mostly what honest authorities do. */
  fault: fc.constantFrom(
    ...Array.from({ length: 8 }, () => "none" as const),
    "round",
    "parent",
    "interval",
    "cap",
    "epoch",
    "signers",
    "gap",
    "debit",
  ),
});
type Action = typeof actions extends fc.Arbitrary<infer T> ? T : never;

test("posts, vetoes, rotations, evidence and pauses do on chain what they do in a plain model", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(actions, { minLength: 60, maxLength: 60, size: "max" }), async (list) => {
      const terms = {
        ...INITIAL,
        windowS: WINDOW_S,
        intervalLengthS: LENGTH_S,
        startInterval: START,
        regions: REGIONS,
      };
      const chain = await startWindowChain({ ...terms, members: WALLETS.slice(0, 5), capWh: wh(CAP_WH) });
      try {
        const history = new History(chain, new SettlementModel({ ...terms, capWh: CAP_WH }));
        for (const action of list) await history.perform(action);
      } finally {
        await chain.stop();
      }
    }),
    { seed: SEED, numRuns: 24, endOnFailure: true },
  );
});

/** One contract and its model, side by side. */
class History {
  readonly #chain: WindowChain;
  readonly #model: SettlementModel;
  /** Whatever was posted, in the order of posting. */
  readonly #posted: SettlementContent[] = [];
  readonly #rotations: ModelRotation[] = [];
  #nowS: number;

  constructor(chain: WindowChain, model: SettlementModel) {
    this.#chain = chain;
    this.#model = model;
    this.#nowS = chain.nowS();
  }

  async perform(action: Action): Promise<void> {
    // A rotation is tried when its delay is over, as often as before.
    const delayS = action.kind === "execute" && action.choice % 2 === 0 ? 2 * WINDOW_S : 0;
    this.#nowS = this.#chain.nowS() + 1 + action.afterS + delayS;
    await this.#chain.warp(this.#nowS);
    const expected = await this.#take(action);
    if (expected === undefined) return;
    const sent = await this.#chain.send(expected.data);
    const happened = "reverted" in sent ? sent.reverted : undefined;
    assert.equal(happened, expected.outcome(), `${action.kind} at ${this.#nowS}`);
    await this.#compare();
  }

  /** The call, and what the model makes of it; nothing where there is nothing to choose from. */
  async #take(action: Action): Promise<{ data: string; outcome: () => Outcome } | undefined> {
    const { region, choice, other } = action;
    const nowS = this.#nowS;
    const model = this.#model;
    const call = <Name extends keyof SettlementFunctions>(
      name: Name,
      given: SettlementFunctions[Name]["given"],
      outcome: () => Outcome,
    ) => ({
      data: settlementAbi.encode(name, given),
      outcome,
    });
    switch (action.kind) {
      case "post":
        return this.#post(this.#next(action), action);
      case "again": {
        const content = this.#chosen(choice);
        return content && this.#post(content, action);
      }
      case "veto": {
        const content = this.#chosen(choice, region);
        if (content === undefined) return undefined;
        const signers = this.#signers(action, this.#model.authorities.vetoThreshold);
        const { epoch } = model.authorities;
        const signatures = await signedVeto(this.#chain, { epoch, settlement: content }, signers);
        const message = { ...content, authoritySetEpoch: epoch };
        return call("veto", [message, this.#parentRecord(content), signatures], () =>
          model.veto(content, signers.map(addressOf), nowS),
        );
      }
      case "rule": {
        const round = Math.max(0, model.tip(region).round - 1 - (choice % 2));
        const founded = other % 4 > 0;
        return call("ruleVeto", [region, round, founded], () => model.rule(region, round, founded));
      }
      case "reopen":
        return call("reopenAfterRotation", [region], () => model.reopen(region));
      case "report": {
        const one = this.#next({ ...action, fault: "none" });
        const two = { ...one, dataHash: `0x${"77".repeat(32)}` satisfies Hex };
        if (action.fault === "round") two.round += 1;
        const [signers, others] = [this.#members(action.signers), this.#members(action.others)];
        const messages = [one, two].map((content) => ({ ...content, authoritySetEpoch: 1 + (other % 3) }));
        const [first, second] = [
          await signedSettlement(this.#chain, messages[0]!, signers),
          await signedSettlement(this.#chain, messages[1]!, others),
        ];
        return call("reportEquivocation", [messages[0]!, first, messages[1]!, second], () =>
          model.report(one, signers.map(addressOf), two, others.map(addressOf), nowS),
        );
      }
      case "pause":
        return call("pauseRegion", [region], () => model.pause(region, nowS));
      case "resume":
        return call("resumeRegion", [region], () => model.resume(region, nowS));
      case "reinstate": {
        const member = addressOf(WALLETS[choice % WALLETS.length]!);
        return call("reinstateAuthority", [member], () => model.reinstate(member));
      }
      case "propose": {
        const rotation = this.#rotation(choice, action.fault === "epoch" ? 1 : 0);
        this.#rotations.push(rotation);
        const signers = this.#signers(action, this.#model.authorities.threshold);
        const signatures = await signedRotation(this.#chain, rotation, signers);
        return call("proposeRotation", [rotation, signatures], () =>
          model.propose(rotation, signers.map(addressOf), nowS),
        );
      }
      case "execute": {
        const rotation = this.#rotations[Math.max(0, this.#rotations.length - (choice % 5 === 0 ? 2 : 1))];
        return rotation && call("executeRotation", [rotation], () => model.execute(rotation, nowS));
      }
      case "cancel":
        return call("cancelRotation", [], () => model.cancel());
      default: {
        const { threshold, vetoThreshold, members } = this.#rotation(choice, 0);
        return call("rotateAuthorities", [threshold, vetoThreshold, members, []], () =>
          model.rotate({ threshold, vetoThreshold, members }),
        );
      }
    }
  }

  async #post(content: SettlementContent, action: Action) {
    const epoch = this.#model.authorities.epoch + (action.fault === "epoch" ? 1 : 0);
    const signers = this.#signers(action, this.#model.authorities.threshold);
    const data = await signedPost(this.#chain, [{ ...content, authoritySetEpoch: epoch }], signers);
    const names = signers.map(addressOf);
    return {
      data,
      outcome: () => {
        const outcome = this.#model.post(content, epoch, names, this.#nowS);
        if (outcome === undefined) this.#posted.push(content);
        return outcome;
      },
    };
  }

  /** A settlement that continues the region's tip, but for the fault. */
  #next({ region, fault, choice, other }: Action): SettlementContent {
    const tip = this.#model.tip(region);
    const from = tip.interval === 0 ? START : tip.interval;
    const intervals = fault === "gap" ? 256 : 1 + (choice % 3);
    const rise = wh(fault === "cap" ? CAP_WH * BigInt(intervals) + 1n : BigInt(other));
    return {
      region,
      round: fault === "round" ? tip.round + 1 : tip.round,
      interval: from + intervals * LENGTH_S + (fault === "interval" ? 1 : 0),
      prevInterval: fault === "parent" ? tip.interval + LENGTH_S : tip.interval,
      prevRoot: tip.root,
      root: `0x${(choice * 1_000 + other).toString(16).padStart(64, "0")}`,
      intervalCreditWh: rise,
      cumulativeCreditWh: wh(tip.cumulativeCreditWh + rise),
      cumulativeDebitWh: wh(
        fault === "debit"
          ? tip.cumulativeDebitWh - (tip.cumulativeDebitWh > 0n ? 1n : 0n)
          : tip.cumulativeDebitWh + BigInt(choice % 5),
      ),
      leafCount: 1 + (choice % 7),
      dataHash: `0x${"da".repeat(32)}`,
    };
  }

  #chosen(choice: number, region?: number): SettlementContent | undefined {
    const list = this.#posted.filter((content) => region === undefined || content.region === region);
    return list[Math.max(0, list.length - 1 - (choice % 5))];
  }

  /** The latest that was posted in the parent's place, with the parent's root. */
  #parentRecord(content: SettlementContent) {
    const parent = this.#posted.findLast(
      ({ region, interval, root, cumulativeCreditWh }) =>
        region === content.region &&
        interval === content.prevInterval &&
        root === content.prevRoot &&
        cumulativeCreditWh === content.cumulativeCreditWh - content.intervalCreditWh,
    );
    return recordOf(parent ?? content);
  }

  /** As many active members as have to sign, but for the fault. */
  #signers({ fault, signers, choice }: Action, count: number): readonly Wallet[] {
    if (fault === "signers") return this.#members(signers);
    const { members, suspended } = this.#model.authorities;
    const active = members.filter((member) => !suspended.includes(member));
    const from = choice % Math.max(1, active.length - count + 1);
    return WALLETS.filter((wallet) => active.slice(from, from + count).includes(addressOf(wallet)));
  }

  /** Members of the current set by their places, each once. */
  #members(places: readonly number[]): readonly Wallet[] {
    const { members } = this.#model.authorities;
    const chosen = new Set(places.map((place) => members[place % members.length]));
    return WALLETS.filter((wallet) => chosen.has(addressOf(wallet)));
  }

  #rotation(choice: number, epochsAhead: number): ModelRotation {
    const members = WALLETS.map(addressOf).filter((_, i) => (i + choice) % WALLETS.length < 5);
    const threshold = 2 + (choice % 3);
    return {
      epoch: this.#model.authorities.epoch + epochsAhead,
      threshold,
      vetoThreshold: Math.min(2, 5 - threshold),
      members,
    };
  }

  async #compare(): Promise<void> {
    const chain = this.#chain;
    const model = this.#model;
    const { epoch, threshold, vetoThreshold, members } = await chain.read("authoritySet", []);
    const addresses = members.map((member) => member.toLowerCase());
    const suspended: string[] = [];
    for (const member of addresses) {
      if (await chain.read("isSuspended", [member])) suspended.push(member);
    }
    const set = { epoch: Number(epoch), threshold: Number(threshold), vetoThreshold: Number(vetoThreshold) };
    assert.deepEqual({ ...set, members: addresses, suspended }, model.authorities);
    const active = await chain.read("activeAuthorities", []);
    assert.equal(Number(active), addresses.length - suspended.length);
    for (const region of REGIONS) {
      const tip = await chain.read("tip", [region]);
      const info = await chain.read("regionInfo", [region]);
      assert.deepEqual(
        {
          round: Number(tip.round),
          interval: Number(tip.interval),
          root: tip.root,
          cumulativeCreditWh: tip.cumulativeCreditWh,
          cumulativeDebitWh: tip.cumulativeDebitWh,
          pausedUntil: Number(info.pausedUntil),
          openVetoes: Number(info.openVetoes),
        },
        model.tip(region),
      );
    }
    for (const content of this.#posted.slice(-12)) {
      const { status } = await chain.read("recordStatus", [content.region, recordOf(content)]);
      assert.equal(STATUSES[Number(status)], model.status(content, this.#nowS));
    }
  }
}
