// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ICreditToken} from "../src/ICreditToken.sol";
import {IGovernance} from "../src/IGovernance.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {IVetoes} from "../src/IVetoes.sol";
import {ILedger} from "./SettlementFixture.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice What governance may do, and who is governance.
contract GovernanceTest is WindowTest {
    uint64 internal constant PAUSE_S = 7 days;

    function test_NobodyElseGoverns() public {
        bytes[8] memory calls = [
            abi.encodeCall(IGovernance.registerRegion, (9, "western", CAP_WH, START)),
            abi.encodeCall(IGovernance.setCap, (REGION, 1)),
            abi.encodeCall(IGovernance.pauseRegion, (REGION)),
            abi.encodeCall(IGovernance.resumeRegion, (REGION)),
            abi.encodeCall(IGovernance.ruleVeto, (REGION, 0, true)),
            abi.encodeCall(
                IGovernance.rotateAuthorities,
                (THRESHOLD, VETO_THRESHOLD, authorities(), new ISettlementTypes.Drop[](0))
            ),
            abi.encodeCall(IGovernance.cancelRotation, ()),
            abi.encodeCall(IGovernance.reinstateAuthority, (vm.addr(keys[0])))
        ];
        bytes memory refused = abi.encodeWithSelector(
            ILedger.AccessManagedUnauthorized.selector,
            address(0xbeef)
        );
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(address(0xbeef));
            (bool done, bytes memory data) = address(ledger).call(calls[i]);
            vm.assertFalse(done, "a stranger governs");
            vm.assertEq(keccak256(data), keccak256(refused));
        }
    }

    function test_ACapCountsFromTheNextPostOn() public {
        postNext(REGION);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IGovernance.CapChanged(REGION, 99);
        ledger.setCap(REGION, 99);
        vm.assertEq(ledger.regionInfo(REGION).capWh, 99);
        refusePost(next(REGION), abi.encodeWithSelector(ISettlement.CapExceeded.selector, uint256(99)));
        ledger.setCap(REGION, 100);
        postNext(REGION);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.UnknownRegion.selector, uint32(9)));
        ledger.setCap(9, 100);
    }

    function test_APauseStopsPostsAndClaimsOfItsRegionAndExpires() public {
        ISettlementTypes.Settlement memory record = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        uint64 until = uint64(block.timestamp) + PAUSE_S;
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.RegionPausedUntil(REGION, until);
        ledger.pauseRegion(REGION);
        bytes memory paused = abi.encodeWithSelector(ISettlement.RegionPaused.selector, until);
        refusePost(next(REGION), paused);
        refuseClaim(record, paused);
        ISettlementTypes.Settlement memory elsewhere = postNext(OTHER_REGION);
        vm.warp(until - 1);
        refusePost(next(REGION), paused);
        refuseClaim(record, paused);
        claimFrom(elsewhere);
        vm.warp(until);
        claimFrom(record);
        postNext(REGION);
    }

    function test_APauseDoesNotStopTransfers() public {
        ISettlementTypes.Settlement memory record = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        claimFrom(record);
        ledger.pauseRegion(REGION);
        vm.prank(address(0x1001));
        ICreditToken(address(ledger)).transfer(address(0x2001), 100);
        vm.assertEq(ledger.balanceOf(address(0x2001)), 100);
    }

    function test_WhatMaturesInAPauseStaysOpenToVetoUntilItEnds() public {
        ISettlementTypes.Settlement memory before = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        ISettlementTypes.Settlement memory pending = postNext(REGION);
        ISettlementTypes.Settlement memory last = postNext(REGION);
        ledger.pauseRegion(REGION);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        // Mature when the pause began.
        refuseVeto(before, before, abi.encodeWithSelector(IVetoes.RecordMature.selector, validAtOf(before)));
        assertStatus(last, ISettlementTypes.RecordStatus.Pending);
        veto(last, pending);
        ledger.resumeRegion(REGION);
        assertStatus(pending, ISettlementTypes.RecordStatus.Claimable);
        refuseVeto(
            pending,
            before,
            abi.encodeWithSelector(IVetoes.RecordMature.selector, validAtOf(pending))
        );
        claimFrom(pending);
    }

    function test_AVetoInAPauseOutlivesIt() public {
        ISettlementTypes.Settlement memory record = postNext(REGION);
        ledger.pauseRegion(REGION);
        veto(record, record);
        vm.warp(block.timestamp + PAUSE_S);
        refusePost(next(REGION), abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        ledger.ruleVeto(REGION, 0, true);
        postNext(REGION);
    }

    function test_ADayLiesBetweenTwoPauses() public {
        ledger.pauseRegion(REGION);
        uint64 until = uint64(block.timestamp) + PAUSE_S;
        uint64[3] memory tooEarly = [uint64(block.timestamp), until, until + 1 days - 1];
        for (uint256 i = 0; i < tooEarly.length; i++) {
            vm.warp(tooEarly[i]);
            vm.expectRevert(abi.encodeWithSelector(IGovernance.PausedRecently.selector, until + 1 days));
            ledger.pauseRegion(REGION);
        }
        vm.warp(until + 1 days);
        ledger.pauseRegion(REGION);
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until + 1 days + PAUSE_S);
    }

    function test_APauseCanBeEndedWhileItRuns() public {
        vm.expectRevert(IGovernance.NotPaused.selector);
        ledger.resumeRegion(REGION);
        ledger.pauseRegion(REGION);
        vm.warp(block.timestamp + 1 days);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IGovernance.RegionResumed(REGION);
        ledger.resumeRegion(REGION);
        postNext(REGION);
        vm.expectRevert(IGovernance.NotPaused.selector);
        ledger.resumeRegion(REGION);
    }

    function test_ADayLiesBetweenTheEndOfAPauseAndTheNextOne() public {
        ledger.pauseRegion(REGION);
        vm.warp(block.timestamp + 1 hours);
        ledger.resumeRegion(REGION);
        uint64 from = uint64(block.timestamp) + 1 days;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(IGovernance.PausedRecently.selector, from));
        ledger.pauseRegion(REGION);
        vm.warp(from);
        ledger.pauseRegion(REGION);
    }

    function test_ARulingNeedsAVeto() public {
        vm.expectRevert(IGovernance.UnknownVeto.selector);
        ledger.ruleVeto(REGION, 0, true);
        ISettlementTypes.Settlement memory record = postNext(REGION);
        veto(record, record);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IGovernance.VetoRuled(REGION, 0, true);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.RegionReopened(REGION, 1);
        ledger.ruleVeto(REGION, 0, true);
        vm.expectRevert(IGovernance.UnknownVeto.selector);
        ledger.ruleVeto(REGION, 0, true);
        vm.assertEq(ledger.activeAuthorities(), 5);
    }
}
