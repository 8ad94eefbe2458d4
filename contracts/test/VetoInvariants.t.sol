// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IClaims} from "../src/IClaims.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SumTree} from "./SumTree.sol";
import {WindowFixture} from "./WindowFixture.sol";

/// @notice Authorities, vetoers, governance and claimants in any order over a contract with a window, beside a plain
/// account of what was posted, dropped and paid. What an action must lead to is asserted by the action itself.
contract WindowWorld is WindowFixture {
    using SumTree for SumTree.Tree;

    struct Posted {
        ISettlementTypes.Settlement settlement;
        ISettlementTypes.Record record;
        bytes32 stateBefore;
        uint256 validAt;
        bool dropped;
    }

    mapping(uint32 region => Posted[]) private history;
    mapping(uint32 region => mapping(uint32 round => mapping(uint64 interval => bool))) private settled;
    mapping(uint32 region => uint256) private lastMintedWh;
    /// @dev The highest total of a record that was ever mature and not dropped.
    mapping(uint32 region => uint256) public attestedWh;
    mapping(uint32 region => uint32[]) private openRounds;

    constructor() {
        deployLedger(WINDOW_S);
    }

    modifier isolated(bool first) {
        bytes32 other = regionState(first ? OTHER_REGION : REGION);
        _;
        vm.assertEq(regionState(first ? OTHER_REGION : REGION), other);
    }

    function passTime(uint32 seconds_) external {
        vm.warp(block.timestamp + LENGTH_S + (seconds_ % (3 * WINDOW_S)));
    }

    function postSome(bool first, uint8 intervals, uint16 riseWh) external isolated(first) {
        uint32 region = first ? REGION : OTHER_REGION;
        ISettlementTypes.Settlement memory settlement = settlementOf(
            region,
            1 + (intervals % 3),
            leavesWith(ledger.tip(region).cumulativeCreditWh + riseWh)
        );
        if (settlement.interval > block.timestamp) vm.warp(settlement.interval);
        (settlement.authoritySetEpoch, , , ) = ledger.authoritySet();
        settlement.cumulativeDebitWh = ledger.tip(region).cumulativeDebitWh + (riseWh % 7);
        bytes32 before = stateOf(region);

        bytes32 digest = ledger.digest(settlement);
        bytes memory twice = bytes.concat(
            signaturesFrom(0, THRESHOLD - 1, digest),
            signaturesFrom(THRESHOLD - 2, THRESHOLD - 1, digest)
        );
        vm.assertFalse(tryPost(settlement, twice), "fewer than k distinct members");
        bool isOpen = ledger.regionInfo(region).openVetoes == 0 && !isPaused(region);
        vm.assertTrue(
            tryPost(settlement, signaturesFrom(0, THRESHOLD, digest)) == isOpen,
            "posts are taken unless paused or stopped"
        );
        if (!isOpen) return;
        vm.assertFalse(settled[region][settlement.round][settlement.interval], "one record per place");
        settled[region][settlement.round][settlement.interval] = true;
        Posted storage posted = history[region].push();
        posted.settlement = settlement;
        posted.record = recordOf(settlement);
        posted.stateBefore = before;
        posted.validAt = validAtOf(settlement);
    }

    function claimSome(bool first, uint256 age) external isolated(first) {
        uint32 region = first ? REGION : OTHER_REGION;
        if (history[region].length == 0) return;
        Posted storage posted = recent(region, age);
        bool isMature = block.timestamp >= posted.validAt;
        bool isDue = isMature && !posted.dropped && !isPaused(region);
        uint256 minted = ledger.regionInfo(region).mintedWh;
        ISettlementTypes.Leaf[] memory leaves = leavesWith(posted.settlement.cumulativeCreditWh);
        vm.assertTrue(tryClaim(region, posted.record, leaves) == isDue, "paid exactly when due");
        if (!isDue) {
            vm.assertEq(ledger.regionInfo(region).mintedWh, minted);
            return;
        }
        uint256 totalWh = posted.settlement.cumulativeCreditWh;
        if (totalWh > attestedWh[region]) attestedWh[region] = totalWh;
        vm.assertEq(ledger.regionInfo(region).mintedWh, totalWh > minted ? totalWh : minted);
        vm.assertTrue(tryClaim(region, posted.record, leaves), "a second claim is no error");
        vm.assertEq(ledger.regionInfo(region).mintedWh, totalWh > minted ? totalWh : minted);
        lastMintedWh[region] = ledger.regionInfo(region).mintedWh;
    }

    function vetoSome(bool first, uint256 age) external isolated(first) {
        uint32 region = first ? REGION : OTHER_REGION;
        if (history[region].length == 0) return;
        Posted storage posted = recent(region, age);
        bool isOpen =
            block.timestamp < posted.validAt ||
                (isPaused(region) && posted.validAt > ledger.regionInfo(region).pausedUntil - 7 days);
        uint32 round = ledger.tip(region).round;
        bool done = tryVeto(posted);
        vm.assertTrue(done == (isOpen && !posted.dropped), "vetoed exactly while pending");
        if (!done) return;
        vm.assertEq(stateOf(region), posted.stateBefore);
        vm.assertEq(ledger.tip(region).round, round + 1);
        openRounds[region].push(round);
        markDropped(region, posted.validAt);
    }

    function ruleSome(bool first) external isolated(first) {
        uint32 region = first ? REGION : OTHER_REGION;
        uint32[] storage open = openRounds[region];
        if (open.length == 0) return;
        bytes32 before = stateOf(region);
        ledger.ruleVeto(region, open[open.length - 1], true);
        open.pop();
        vm.assertEq(ledger.regionInfo(region).openVetoes, open.length);
        if (open.length > 0) vm.assertEq(stateOf(region), before);
    }

    function pauseSome(bool first) external isolated(first) {
        uint32 region = first ? REGION : OTHER_REGION;
        if (isPaused(region)) ledger.resumeRegion(region);
        else if (block.timestamp >= ledger.regionInfo(region).pausedUntil + 1 days)
            ledger.pauseRegion(region);
    }

    function rotate() external {
        (uint32 epoch, , , ) = ledger.authoritySet();
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, authorities(), new ISettlementTypes.Drop[](0));
        (uint32 now_, , , ) = ledger.authoritySet();
        vm.assertEq(now_, epoch + 1);
    }

    function mintedWh(uint32 region) external view returns (uint256) {
        return ledger.regionInfo(region).mintedWh;
    }

    function mintedAtLeastWh(uint32 region) external view returns (uint256) {
        return lastMintedWh[region];
    }

    /// @dev No record that the account holds for dropped or pending can be claimed from, by any of its proofs.
    function requireUnclaimable(uint32 region) external {
        uint256 count = history[region].length;
        for (uint256 i = count > 8 ? count - 8 : 0; i < count; i++) {
            Posted storage posted = history[region][i];
            if (!posted.dropped && block.timestamp >= posted.validAt) continue;
            ISettlementTypes.Leaf[] memory leaves = leavesWith(posted.settlement.cumulativeCreditWh);
            vm.assertFalse(tryClaim(region, posted.record, leaves), "dropped or pending");
        }
    }

    function markDropped(uint32 region, uint256 fromValidAt) private {
        Posted[] storage list_ = history[region];
        for (uint256 i = list_.length; i > 0 && list_[i - 1].validAt >= fromValidAt; i--) {
            list_[i - 1].dropped = true;
        }
    }

    /// @dev One of the latest six.
    function recent(uint32 region, uint256 age) private view returns (Posted storage) {
        uint256 count = history[region].length;
        return history[region][count - 1 - (age % (count > 6 ? 6 : count))];
    }

    function tryPost(
        ISettlementTypes.Settlement memory settlement,
        bytes memory signatures
    ) private returns (bool done) {
        try ledger.post(signatures, alone(settlement)) {
            done = true;
        } catch {}
    }

    function tryClaim(
        uint32 region,
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves
    ) private returns (bool done) {
        bytes memory data = abi.encodeCall(
            IClaims.claim,
            (region, record, leaves[0], SumTree.build(leaves).proof(0))
        );
        (done, ) = address(ledger).call(data);
    }

    function tryVeto(Posted storage posted) private returns (bool done) {
        bytes memory signatures = vetoSignatures(posted.settlement);
        try ledger.veto(posted.settlement, parentOf(posted), signatures) {
            done = true;
        } catch {}
    }

    /// @dev The latest one that was not dropped before, at the parent's place.
    function parentOf(Posted storage posted) private view returns (ISettlementTypes.Record memory record) {
        Posted[] storage list_ = history[posted.settlement.region];
        for (uint256 i = 0; i < list_.length; i++) {
            bool isBefore = list_[i].settlement.interval == posted.settlement.prevInterval;
            if (isBefore && list_[i].validAt < posted.validAt && !list_[i].dropped) record = list_[i].record;
        }
    }

    function isPaused(uint32 region) private view returns (bool) {
        return block.timestamp < ledger.regionInfo(region).pausedUntil;
    }

    function regionState(uint32 region) private view returns (bytes32) {
        return keccak256(abi.encode(ledger.tip(region), ledger.regionInfo(region)));
    }
}

contract VetoInvariantsTest is WindowFixture {
    WindowWorld internal world;

    function setUp() public {
        world = new WindowWorld();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(world);
    }

    function invariant_MintedIsAttestedAndNeverFalls() public view {
        uint32[2] memory regions = [REGION, OTHER_REGION];
        for (uint256 i = 0; i < 2; i++) {
            uint256 mintedWh = world.mintedWh(regions[i]);
            vm.assertLe(mintedWh, world.attestedWh(regions[i]), "minted is at most attested");
            vm.assertGe(mintedWh, world.mintedAtLeastWh(regions[i]), "minted never falls");
        }
    }

    function invariant_NothingDroppedOrPendingIsClaimable() public {
        world.requireUnclaimable(REGION);
        world.requireUnclaimable(OTHER_REGION);
    }
}
