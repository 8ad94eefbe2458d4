// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {IVetoes} from "../src/IVetoes.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice Whom evidence of two contents for one place suspends, and when it pauses the region.
contract EquivocationTest is WindowTest {
    ISettlementTypes.Settlement internal one;
    ISettlementTypes.Settlement internal other;

    function setUp() public override {
        super.setUp();
        one = next(REGION);
        other = one;
        other.dataHash = keccak256("other evidence");
    }

    function test_WhoSignedBothIsSuspendedAndNobodyElse() public {
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IAuthoritySet.AuthoritySuspended(vm.addr(keys[1]));
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.Equivocated(
            vm.addr(keys[1]),
            REGION,
            0,
            one.interval,
            ledger.contentHash(one),
            ledger.contentHash(other)
        );
        report(signaturesFrom(0, 2, digestOf(one)), signaturesFrom(1, 4, digestOf(other)));
        for (uint256 i = 0; i < 5; i++) vm.assertTrue(isSuspended(i) == (i == 1));
        vm.assertEq(ledger.activeAuthorities(), 4);
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, 0);
        bytes memory signatures = signaturesOf(one, THRESHOLD);
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(1)));
        post(one, signatures);
    }

    function test_TheEpochDoesNotCountAsContent() public {
        other = one;
        other.authoritySetEpoch = 2;
        refuse(signaturesOf(one, 1), signaturesOf(other, 1), IVetoes.NotEquivocation.selector);
    }

    function test_TheTwoAreForOnePlace() public {
        other.region = OTHER_REGION;
        refuse(signaturesOf(one, 1), signaturesOf(other, 1), IVetoes.NotEquivocation.selector);
        other.region = REGION;
        other.round = 1;
        refuse(signaturesOf(one, 1), signaturesOf(other, 1), IVetoes.NotEquivocation.selector);
        other.round = 0;
        other.interval += LENGTH_S;
        refuse(signaturesOf(one, 1), signaturesOf(other, 1), IVetoes.NotEquivocation.selector);
        refuse(signaturesOf(one, 1), signaturesOf(one, 1), IVetoes.NotEquivocation.selector);
        one.region = 9;
        vm.expectRevert(abi.encodeWithSelector(ISettlement.UnknownRegion.selector, uint32(9)));
        ledger.reportEquivocation(one, "", one, "");
    }

    function test_EvidenceIsMembersSignatures() public {
        bytes memory whole = signaturesFrom(1, 2, digestOf(one));
        bytes memory stranger = signatureBy(99, digestOf(other));
        bytes memory twice = bytes.concat(whole, whole);
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        ledger.reportEquivocation(one, whole, other, stranger);
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(1)));
        ledger.reportEquivocation(one, twice, other, stranger);
        refuse(bytes.concat(whole, hex"00"), "", IAuthoritySet.WrongSignatureCount.selector);
        bytes memory six = signaturesFrom(0, 5, digestOf(one));
        refuse(bytes.concat(six, whole), "", IAuthoritySet.WrongSignatureCount.selector);
        refuse(whole, "", IVetoes.NothingProven.selector);
        refuse(
            signaturesFrom(0, 2, digestOf(one)),
            signaturesFrom(2, 4, digestOf(other)),
            IVetoes.NothingProven.selector
        );
    }

    /// @dev Signers of each message as [first, end), who is suspended, and whether that pauses the region.
    function test_TheRegionPausesOnlyWhereTheThresholdIsReached() public {
        uint256[6][5] memory cases = [
            // Each message has three signers.
            [uint256(0), 3, 2, 5, 1, 1],
            [uint256(0), 3, 0, 3, 3, 1],
            // One message has two.
            [uint256(0), 2, 0, 3, 2, 0],
            [uint256(0), 5, 4, 5, 1, 0],
            // Two remain active.
            [uint256(0), 5, 0, 5, 5, 1]
        ];
        for (uint256 i = 0; i < cases.length; i++) {
            setUpAgain();
            report(
                signaturesFrom(cases[i][0], cases[i][1], digestOf(one)),
                signaturesFrom(cases[i][2], cases[i][3], digestOf(other))
            );
            vm.assertEq(ledger.activeAuthorities(), 5 - cases[i][4]);
            uint256 until = cases[i][5] == 1 ? block.timestamp + 7 days : 0;
            vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until);
            vm.assertEq(ledger.regionInfo(OTHER_REGION).pausedUntil, 0);
        }
    }

    function test_FewerActiveThanTheThresholdPauseTheRegion() public {
        report(signaturesFrom(0, 2, digestOf(one)), signaturesFrom(0, 2, digestOf(other)));
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, 0);
        report(signaturesFrom(2, 3, digestOf(one)), signaturesFrom(2, 3, digestOf(other)));
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, block.timestamp + 7 days);
    }

    function test_TheSameEvidenceCountsOnce() public {
        bytes memory signatures = signaturesFrom(1, 2, digestOf(one));
        bytes memory others = signaturesFrom(1, 2, digestOf(other));
        report(signatures, others);
        refuse(signatures, others, IVetoes.NothingProven.selector);
        ledger.reinstateAuthority(vm.addr(keys[1]));
        refuse(signatures, others, IVetoes.NothingProven.selector);
        one.interval += LENGTH_S;
        other.interval += LENGTH_S;
        report(signaturesFrom(1, 2, digestOf(one)), signaturesFrom(1, 2, digestOf(other)));
        vm.assertTrue(isSuspended(1));
    }

    function test_EachRegionRoundAndIntervalCountsOnItsOwn() public {
        for (uint256 i = 0; i < 4; i++) {
            if (i == 1) one.region = other.region = OTHER_REGION;
            if (i == 2) one.round = other.round = 1;
            if (i == 3) one.interval = other.interval = one.interval + LENGTH_S;
            report(signaturesFrom(1, 2, digestOf(one)), signaturesFrom(1, 2, digestOf(other)));
            vm.assertTrue(isSuspended(1));
            ledger.reinstateAuthority(vm.addr(keys[1]));
        }
    }

    /// @dev By a ruling on a veto of theirs.
    function test_EvidenceAgainstWhoIsSuspendedAlreadyIsKeptForLater() public {
        veto(postNext(REGION), one);
        ledger.ruleVeto(REGION, 0, false);
        bytes memory signatures = signaturesFrom(4, 5, digestOf(one));
        bytes memory others = signaturesFrom(4, 5, digestOf(other));
        refuse(signatures, others, IVetoes.NothingProven.selector);
        ledger.reinstateAuthority(vm.addr(keys[4]));
        report(signatures, others);
        vm.assertTrue(isSuspended(4));
    }

    /// @dev A colluder suspends those in the middle by a report of their own, so that the whole would prove nothing new.
    function test_AReportOfAPartDoesNotKeepTheWholeFromPausing() public {
        bytes memory signatures = signaturesFrom(0, 3, digestOf(one));
        bytes memory others = signaturesFrom(2, 5, digestOf(other));
        report(signaturesFrom(2, 3, digestOf(one)), signaturesFrom(2, 3, digestOf(other)));
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, 0);
        report(signatures, others);
        uint256 until = block.timestamp + 7 days;
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until);
        refuse(signatures, others, IVetoes.NothingProven.selector);
    }

    function test_APauseThatRunsIsNotLengthened() public {
        ledger.pauseRegion(REGION);
        uint256 until = block.timestamp + 7 days;
        vm.warp(block.timestamp + 1 days);
        report(signaturesFrom(0, 3, digestOf(one)), signaturesFrom(0, 3, digestOf(other)));
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until);
    }

    /// @dev Who may still sign evidence, suspended as they are, could otherwise hold all claims for ever.
    function test_TheSignersOfASetPauseARegionOnce() public {
        report(signaturesFrom(0, 3, digestOf(one)), signaturesFrom(0, 3, digestOf(other)));
        vm.warp(block.timestamp + 7 days);
        one.interval += LENGTH_S;
        other.interval += LENGTH_S;
        refuse(
            signaturesFrom(0, 3, digestOf(one)),
            signaturesFrom(0, 3, digestOf(other)),
            IVetoes.NothingProven.selector
        );
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, block.timestamp);
        // Another region is paused once, too.
        one.region = other.region = OTHER_REGION;
        report(signaturesFrom(0, 3, digestOf(one)), signaturesFrom(0, 3, digestOf(other)));
        vm.assertEq(ledger.regionInfo(OTHER_REGION).pausedUntil, block.timestamp + 7 days);
    }

    function test_TheSignersOfANewSetCanPauseARegionAgain() public {
        report(signaturesFrom(0, 3, digestOf(one)), signaturesFrom(2, 5, digestOf(other)));
        vm.warp(block.timestamp + 7 days);
        ledger.reinstateAuthority(vm.addr(keys[2]));
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, authorities(), new ISettlementTypes.Drop[](0));
        one.interval += LENGTH_S;
        other.interval += LENGTH_S;
        report(signaturesFrom(0, 3, digestOf(one)), signaturesFrom(2, 5, digestOf(other)));
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, block.timestamp + 7 days);
    }

    /// @dev Whoever is caught could otherwise report it in a pause that is about to end.
    function test_AReportInAPauseDoesNotUseUpTheOneItCanBring() public {
        bytes memory signatures = signaturesFrom(0, 3, digestOf(one));
        bytes memory others = signaturesFrom(2, 5, digestOf(other));
        ledger.pauseRegion(REGION);
        uint256 until = block.timestamp + 7 days;
        vm.warp(until - 1);
        report(signatures, others);
        refuse(signatures, others, IVetoes.NothingProven.selector);
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until);
        vm.warp(until);
        report(signatures, others);
        vm.assertEq(ledger.regionInfo(REGION).pausedUntil, until + 7 days);
    }

    function setUpAgain() private {
        ledger = deploy(LENGTH_S, WINDOW_S, THRESHOLD, VETO_THRESHOLD, authorities());
        ledger.registerRegion(REGION, "bangkok", CAP_WH, START);
        ledger.registerRegion(OTHER_REGION, "northern", CAP_WH, START);
    }

    function report(bytes memory signatures, bytes memory others) private {
        ledger.reportEquivocation(one, signatures, other, others);
    }

    function refuse(bytes memory signatures, bytes memory others, bytes4 selector) private {
        vm.expectRevert(selector);
        ledger.reportEquivocation(one, signatures, other, others);
    }

    function digestOf(ISettlementTypes.Settlement memory settlement) private view returns (bytes32) {
        return ledger.digest(settlement);
    }

    function isSuspended(uint256 i) private view returns (bool) {
        return ledger.isSuspended(vm.addr(keys[i]));
    }
}
