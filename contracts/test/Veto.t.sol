// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {IVetoes} from "../src/IVetoes.sol";
import {Vm} from "./Vm.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice What a veto drops, what it leaves, and when there is none.
contract VetoTest is WindowTest {
    uint256 private constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    ISettlementTypes.Settlement internal mature;
    ISettlementTypes.Settlement internal first;
    ISettlementTypes.Settlement internal second;

    /// @dev A mature record, and two pending ones after it.
    function setUp() public override {
        super.setUp();
        mature = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        first = postNext(REGION);
        second = postNext(REGION);
    }

    function test_ARecordIsPendingForTheWindowThenClaimable() public {
        assertStatus(mature, ISettlementTypes.RecordStatus.Claimable);
        assertStatus(first, ISettlementTypes.RecordStatus.Pending);
        uint64 validAt = validAtOf(first);
        vm.assertEq(validAt, block.timestamp + WINDOW_S);
        vm.assertEq(validAtOf(second), validAt + 1);
        vm.warp(validAt - 1);
        refuseClaim(first, abi.encodeWithSelector(ISettlement.RecordPending.selector, validAt));
        vm.warp(validAt);
        claimFrom(first);
        assertStatus(first, ISettlementTypes.RecordStatus.Claimable);
        vm.assertEq(ledger.totalSupply(), 200);
    }

    function test_AVetoDropsTheRecordAndItsSuccessorsAndRestoresTheParent() public {
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        bytes memory signatures = vetoSignatures(first);
        ISettlementTypes.Record memory parent = recordOf(mature);
        address[] memory signers = new address[](2);
        (signers[0], signers[1]) = (vm.addr(keys[3]), vm.addr(keys[4]));
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.RecordsDropped(REGION, 0, first.interval, mature.interval);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.Vetoed(REGION, 0, first.interval, signers);
        ledger.veto(first, parent, signatures);

        tip = ledger.tip(REGION);
        vm.assertEq(tip.round, 1);
        vm.assertEq(tip.interval, mature.interval);
        vm.assertEq(tip.root, mature.root);
        vm.assertEq(tip.cumulativeCreditWh, mature.cumulativeCreditWh);
        vm.assertEq(tip.cumulativeDebitWh, mature.cumulativeDebitWh);
        vm.assertEq(ledger.regionInfo(REGION).openVetoes, 1);
        vm.assertEq(keccak256(abi.encode(ledger.vetoSigners(REGION, 0))), keccak256(abi.encode(signers)));
        assertStatus(mature, ISettlementTypes.RecordStatus.Claimable);
        assertStatus(first, ISettlementTypes.RecordStatus.Dropped);
        assertStatus(second, ISettlementTypes.RecordStatus.Dropped);
        vm.assertFalse(ledger.isAccepted(REGION, recordOf(second)));
        claimFrom(mature);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        refuseClaim(first, abi.encodeWithSelector(ISettlement.RecordDropped.selector));
        refuseClaim(second, abi.encodeWithSelector(ISettlement.RecordDropped.selector));
    }

    function testFuzz_AVetoRestoresTheStateSaveTheRound(uint256 before, uint256 dropped) public {
        for (uint256 i = 0; i < before % 5; i++) postNext(REGION);
        bytes32 expected = stateOf(REGION);
        ISettlementTypes.Settlement memory parent = before % 5 == 0 ? second : lastPosted;
        ISettlementTypes.Settlement memory target = postNext(REGION);
        for (uint256 i = 0; i < dropped % 5; i++) postNext(REGION);
        veto(target, parent);
        vm.assertEq(stateOf(REGION), expected);
        ledger.ruleVeto(REGION, 0, true);
        vm.assertEq(stateOf(REGION), expected);
    }

    function test_AVetoOfARegionsFirstRecordLeavesNothing() public {
        bytes32 expected = stateOf(OTHER_REGION);
        ISettlementTypes.Settlement memory only = postNext(OTHER_REGION);
        veto(only, mature);
        vm.assertEq(stateOf(OTHER_REGION), expected);
        ledger.ruleVeto(OTHER_REGION, 0, true);
        postNext(OTHER_REGION);
    }

    function test_AVetoStopsItsRegionOnly() public {
        veto(first, mature);
        ISettlementTypes.Settlement memory again = next(REGION);
        refusePost(again, abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        postNext(OTHER_REGION);
    }

    /// @dev Its slot still holds it: a relayer must not be told that it is settled.
    function test_ADroppedRecordIsNotSkippedAsAccepted() public {
        veto(first, mature);
        refusePost(first, abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        ledger.ruleVeto(REGION, 0, true);
        refusePost(first, abi.encodeWithSelector(ISettlement.WrongRound.selector, uint32(1)));
    }

    function test_DroppedSignaturesDieWithTheirRound() public {
        veto(second, first);
        ledger.ruleVeto(REGION, 0, true);
        refusePost(second, abi.encodeWithSelector(ISettlement.WrongRound.selector, uint32(1)));
        second.round = 1;
        post(second, signaturesOf(second, THRESHOLD));
    }

    /// @dev One veto tells the dropped from the others by validAt, so that no two records may share theirs.
    function test_ValidAtGoesOnRisingAfterAVeto() public {
        uint64 droppedValidAt = validAtOf(second);
        veto(second, first);
        ledger.ruleVeto(REGION, 0, true);
        ISettlementTypes.Settlement memory third = postNext(REGION);
        vm.assertEq(validAtOf(third), droppedValidAt + 1);
        veto(third, first);
        assertStatus(first, ISettlementTypes.RecordStatus.Pending);
    }

    /// @dev The new round's batch leaves the dropped records' ring slots alone, which would mature in time.
    function test_ADroppedRecordNeverBecomesClaimable() public {
        ISettlementTypes.Settlement memory third = postNext(REGION);
        veto(first, mature);
        ledger.ruleVeto(REGION, 0, true);
        ISettlementTypes.Settlement memory covering = settlementOf(REGION, 3, leavesWith(150));
        covering.cumulativeDebitWh = 9;
        post(covering, signaturesOf(covering, THRESHOLD));
        vm.warp(block.timestamp + 2 * WINDOW_S);
        bytes memory unknown = abi.encodeWithSelector(ISettlement.UnknownRecord.selector);
        refuseClaim(first, unknown);
        refuseClaim(second, unknown);
        refuseClaim(third, unknown);
        claimFrom(covering);
        vm.assertEq(ledger.totalSupply(), 150);
    }

    function test_OnlyAPendingRecordIsVetoed() public {
        uint64 validAt = validAtOf(first);
        vm.warp(validAt);
        refuseVeto(first, mature, abi.encodeWithSelector(IVetoes.RecordMature.selector, validAt));
        veto(second, first);
        refuseVeto(second, first, abi.encodeWithSelector(ISettlement.RecordDropped.selector));
        second.dataHash = 0;
        refuseVeto(second, first, abi.encodeWithSelector(ISettlement.UnknownRecord.selector));
        second.region = 9;
        refuseVeto(second, first, abi.encodeWithSelector(ISettlement.UnknownRegion.selector, uint32(9)));
    }

    function test_TheParentIsTheRecordBefore() public {
        bytes memory invalid = abi.encodeWithSelector(IVetoes.InvalidParent.selector);
        refuseVeto(second, mature, invalid);
        ISettlementTypes.Settlement memory other = first;
        other.cumulativeDebitWh++;
        refuseVeto(second, other, invalid);
    }

    function test_AnEarlierPendingRecordCanBeVetoedWhileTheRegionIsStopped() public {
        veto(second, first);
        veto(first, mature);
        vm.assertEq(ledger.tip(REGION).round, 2);
        vm.assertEq(ledger.regionInfo(REGION).openVetoes, 2);
        ledger.ruleVeto(REGION, 1, true);
        refusePost(next(REGION), abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        assertStatus(second, ISettlementTypes.RecordStatus.Dropped);
        ledger.ruleVeto(REGION, 0, true);
        assertStatus(first, ISettlementTypes.RecordStatus.Unknown);
        assertStatus(second, ISettlementTypes.RecordStatus.Unknown);
        postNext(REGION);
    }

    function test_AVetoNeedsExactlyItsThresholdOfActiveMembers() public {
        bytes32 digest = ledger.vetoDigest(first);
        ISettlementTypes.Record memory parent = recordOf(mature);
        for (uint256 count = 0; count <= 5; count++) {
            if (count == VETO_THRESHOLD) continue;
            bytes memory wrong = signaturesFrom(0, count, digest);
            vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
            ledger.veto(first, parent, wrong);
        }
        bytes[3] memory refused = [
            bytes.concat(signaturesFrom(4, 5, digest), signaturesFrom(3, 4, digest)),
            bytes.concat(signaturesFrom(3, 4, digest), signaturesFrom(3, 4, digest)),
            bytes.concat(signaturesFrom(3, 4, digest), signatureBy(99, digest))
        ];
        for (uint256 i = 0; i < refused.length; i++) {
            vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(1)));
            ledger.veto(first, parent, refused[i]);
        }
    }

    /// @dev The other value of s that verifies, and a v that does not.
    function test_AMalleableOrMalformedSignatureIsNobodys() public {
        bytes32 digest = ledger.vetoDigest(first);
        bytes memory good = signatureBy(keys[3], digest);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[4], digest);
        bytes[2] memory refused = [
            abi.encodePacked(r, CURVE_ORDER - uint256(s), v ^ 7),
            abi.encodePacked(r, s, v - 27)
        ];
        ISettlementTypes.Record memory parent = recordOf(mature);
        for (uint256 i = 0; i < refused.length; i++) {
            vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(1)));
            ledger.veto(first, parent, bytes.concat(good, refused[i]));
        }
    }

    function test_AnUnfoundedVetoSuspendsItsSigners() public {
        veto(first, mature);
        ledger.ruleVeto(REGION, 0, false);
        vm.assertTrue(ledger.isSuspended(vm.addr(keys[3])));
        vm.assertTrue(ledger.isSuspended(vm.addr(keys[4])));
        vm.assertEq(ledger.activeAuthorities(), 3);
        ISettlementTypes.Settlement memory again = next(REGION);
        bytes memory signatures = signaturesFrom(2, 5, ledger.digest(again));
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(1)));
        post(again, signatures);
        post(again, signaturesOf(again, THRESHOLD));
        refuseVeto(
            again,
            mature,
            abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0))
        );
    }

    function test_WhoIsSuspendedAlreadyStaysSo() public {
        veto(second, first);
        veto(first, mature);
        ledger.ruleVeto(REGION, 0, false);
        vm.recordLogs();
        ledger.ruleVeto(REGION, 1, false);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            vm.assertFalse(logs[i].topics[0] == IAuthoritySet.AuthoritySuspended.selector);
        }
        vm.assertEq(ledger.activeAuthorities(), 3);
    }

    function test_WhereAllMustSignNoneCanVeto() public {
        ledger = deploy(LENGTH_S, WINDOW_S, 5, 0, authorities());
        ledger.registerRegion(REGION, "bangkok", CAP_WH, START);
        ISettlementTypes.Settlement memory only = next(REGION);
        post(only, signaturesOf(only, 5));
        refuseVeto(only, mature, abi.encodeWithSelector(IVetoes.NoVeto.selector));
    }

    function test_ARecordThatIsPendingKeepsItsSlot() public {
        ISettlementTypes.Settlement memory late = settlementOf(REGION, 256, leavesWith(400));
        late.cumulativeDebitWh = 9;
        late.interval = second.interval + 255 * LENGTH_S;
        refusePost(late, abi.encodeWithSelector(ISettlement.RingFull.selector, validAtOf(first)));
        vm.warp(validAtOf(first));
        post(late, signaturesOf(late, THRESHOLD));
    }

    /// @dev `second` stays pending while a later record takes the slot of its parent.
    function test_AVetoAfterItsParentLeftTheRingLetsDebitsFallBack() public {
        vm.warp(validAtOf(first));
        ISettlementTypes.Settlement memory late = settlementOf(REGION, 255, leavesWith(400));
        late.cumulativeDebitWh = 9;
        post(late, signaturesOf(late, THRESHOLD));
        assertStatus(first, ISettlementTypes.RecordStatus.Unknown);
        veto(second, first);
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        vm.assertEq(tip.interval, first.interval);
        vm.assertEq(tip.root, first.root);
        vm.assertEq(tip.cumulativeCreditWh, first.cumulativeCreditWh);
        vm.assertEq(tip.cumulativeDebitWh, 0);
        ledger.ruleVeto(REGION, 0, true);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        refuseClaim(late, abi.encodeWithSelector(ISettlement.UnknownRecord.selector));
    }

    /// @dev A batch after a long outage spans more intervals than the ring has slots; a mature record lies in one.
    function test_ReopeningClearsDroppedRecordsOnly() public {
        vm.warp(START + 3000 * LENGTH_S);
        ISettlementTypes.Settlement memory far = settlementOf(REGION, 700, leavesWith(400));
        far.cumulativeDebitWh = 9;
        post(far, signaturesOf(far, THRESHOLD));
        veto(far, second);
        ledger.ruleVeto(REGION, 0, true);
        assertStatus(far, ISettlementTypes.RecordStatus.Unknown);
        assertStatus(mature, ISettlementTypes.RecordStatus.Claimable);
        assertStatus(first, ISettlementTypes.RecordStatus.Claimable);
        assertStatus(second, ISettlementTypes.RecordStatus.Claimable);
        claimFrom(second);
    }

    /// @dev The later record that took the parent's slot was itself dropped, and its slot cleared.
    function test_ARecordCanBeVetoedWhereTheSlotOfItsParentWasCleared() public {
        vm.warp(validAtOf(first));
        ISettlementTypes.Settlement memory late = settlementOf(REGION, 255, leavesWith(400));
        late.cumulativeDebitWh = 9;
        post(late, signaturesOf(late, THRESHOLD));
        veto(late, second);
        ledger.ruleVeto(REGION, 0, true);
        vm.assertEq(ledger.recordSlot(REGION, first.interval), bytes32(0));
        assertStatus(second, ISettlementTypes.RecordStatus.Pending);
        veto(second, first);
        vm.assertEq(ledger.tip(REGION).interval, first.interval);
        vm.assertEq(ledger.tip(REGION).cumulativeDebitWh, 0);
        ledger.ruleVeto(REGION, 1, true);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        refuseClaim(second, abi.encodeWithSelector(ISettlement.UnknownRecord.selector));
    }
}
