// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {ILedger, SettlementTest} from "./SettlementFixture.sol";

/// @notice Which settlements are accepted, and with which error the others are refused.
contract PostTest is SettlementTest {
    ISettlementTypes.Settlement internal honest;

    function setUp() public override {
        super.setUp();
        postLeaves(REGION, 1, leavesOf(list(100, 200, 300)));
        honest = settlementOf(REGION, 2, leavesOf(list(100, 250, 350)));
    }

    function test_AnAcceptedSettlementIsTheTipAndEmitsItsContent() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        bytes32 content = ledger.contentHash(honest);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit ISettlement.Settled(
            REGION,
            honest.interval,
            honest.root,
            content,
            honest.dataHash,
            // Round 0, 3 leaves, 100 Wh of 700, no debit.
            bytes32((uint256(3) << 192) | (100 << 128) | (700 << 64))
        );
        post(honest, signatures);

        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        vm.assertEq(tip.interval, honest.interval);
        vm.assertEq(tip.root, honest.root);
        vm.assertEq(tip.cumulativeCreditWh, 700);
        vm.assertTrue(ledger.isAccepted(REGION, recordOf(honest)));
        vm.assertEq(tip.recordSlot, ledger.recordSlot(REGION, honest.interval));
        bytes32 recordHash = keccak256(abi.encode(recordOf(honest)));
        vm.assertEq(uint256(tip.recordSlot), (block.timestamp << 208) | (uint256(recordHash) >> 48));
    }

    function test_AnyoneMayRelay() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        vm.prank(address(0xbeef));
        post(honest, signatures);
    }

    function test_TheSameContentIsNotAcceptedTwice() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        post(honest, signatures);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadySettled.selector, REGION, honest.interval));
        post(honest, signatures);
    }

    function test_AnotherContentForASettledIntervalIsRefused() public {
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        honest.interval = tip.interval;
        refuse(honest, abi.encodeWithSelector(ISettlement.InvalidInterval.selector, tip.interval));
    }

    function test_AnIntervalCannotBeSkippedWhereTheRootRepeats() public {
        ISettlementTypes.Settlement memory night = settlementOf(REGION, 1, leavesOf(list(100, 200, 300)));
        ISettlementTypes.Settlement memory later = night;
        later.prevInterval = night.interval;
        later.interval = night.interval + LENGTH_S;
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        refuse(later, abi.encodeWithSelector(ISettlement.WrongParent.selector, tip.interval, tip.root));
    }

    function test_ASettlementMustContinueTheTip() public {
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        bytes memory wrongParent = abi.encodeWithSelector(
            ISettlement.WrongParent.selector,
            tip.interval,
            tip.root
        );
        honest.prevRoot = bytes32(uint256(1));
        refuse(honest, wrongParent);
        honest.prevRoot = tip.root;
        honest.prevInterval = 0;
        refuse(honest, wrongParent);
        honest.prevInterval = tip.interval;
        honest.round = 1;
        refuse(honest, abi.encodeWithSelector(ISettlement.WrongRound.selector, uint32(0)));
    }

    function test_AnIntervalLiesOnTheGridAfterItsParentAndNotAhead() public {
        uint64 parent = honest.prevInterval;
        uint64[4] memory intervals = [
            parent,
            parent + 1,
            parent - LENGTH_S,
            uint64(block.timestamp) + LENGTH_S
        ];
        for (uint256 i = 0; i < intervals.length; i++) {
            honest.interval = intervals[i];
            refuse(honest, abi.encodeWithSelector(ISettlement.InvalidInterval.selector, intervals[i]));
        }
        honest.interval = uint64(block.timestamp);
        accept(honest);
    }

    function test_TheFirstIntervalEndsAfterTheRegionsStart() public {
        ISettlementTypes.Settlement memory first = settlementOf(OTHER_REGION, 0, leavesOf(list(1, 2, 3)));
        refuse(first, abi.encodeWithSelector(ISettlement.InvalidInterval.selector, START));
        first.interval = START + LENGTH_S;
        accept(first);
    }

    function test_TheTotalsContinueTheTips() public {
        bytes memory invalid = abi.encodeWithSelector(ISettlement.InvalidTotals.selector);
        honest.intervalCreditWh = 99;
        refuse(honest, invalid);
        honest.intervalCreditWh = 101;
        refuse(honest, invalid);
        honest.cumulativeCreditWh = 599;
        honest.intervalCreditWh = type(uint64).max;
        refuse(honest, invalid);
    }

    function test_DebitsNeverFall() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(100, 250, 350));
        leaves[0].debitWh = 40;
        postLeaves(REGION, 1, leaves);
        leaves[0].debitWh = 39;
        refuse(settlementOf(REGION, 1, leaves), abi.encodeWithSelector(ISettlement.InvalidTotals.selector));
    }

    function testFuzz_TheCapGrowsWithElapsedIntervals(uint64 intervals, uint64 excessWh) public {
        intervals = 1 + (intervals % 100);
        excessWh = 1 + (excessWh % CAP_WH);
        uint64 allowedWh = intervals * CAP_WH;
        ISettlementTypes.Settlement memory atCap = settlementOf(
            REGION,
            intervals,
            leavesOf(list(600, 0, allowedWh))
        );
        uint64 above = allowedWh + excessWh;
        refuse(
            settlementOf(REGION, intervals, leavesOf(list(600, 0, above))),
            abi.encodeWithSelector(ISettlement.CapExceeded.selector, uint256(allowedWh))
        );
        accept(atCap);
    }

    function test_ARegionsFirstCapCountsFromItsStart() public {
        refuse(
            settlementOf(OTHER_REGION, 2, leavesOf(list(CAP_WH, CAP_WH, 1))),
            abi.encodeWithSelector(ISettlement.CapExceeded.selector, uint256(2 * CAP_WH))
        );
        accept(settlementOf(OTHER_REGION, 2, leavesOf(list(CAP_WH, CAP_WH, 0))));
    }

    function test_ATreeHasLeaves() public {
        honest.leafCount = 0;
        refuse(honest, abi.encodeWithSelector(ISettlement.EmptyTree.selector));
    }

    function test_ARegionMustBeRegistered() public {
        honest.region = 9;
        refuse(honest, abi.encodeWithSelector(ISettlement.UnknownRegion.selector, uint32(9)));
        // Nothing else is wrong with it: it continues nothing by nothing.
        honest.prevInterval = 0;
        honest.prevRoot = 0;
        honest.intervalCreditWh = honest.cumulativeCreditWh = 0;
        refuse(honest, abi.encodeWithSelector(ISettlement.UnknownRegion.selector, uint32(9)));
    }

    function test_OnlyTheCurrentSetCounts() public {
        honest.authoritySetEpoch = 2;
        refuse(honest, abi.encodeWithSelector(IAuthoritySet.WrongEpoch.selector, uint32(1)));
    }

    function testFuzz_AsManySignaturesAsTheThresholdAreGiven(uint256 count) public {
        count %= keys.length + 1;
        bytes memory signatures = signaturesOf(honest, count);
        if (count != THRESHOLD) vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
        post(honest, signatures);
    }

    function test_SignaturesAreWhole() public {
        bytes memory signatures = bytes.concat(signaturesOf(honest, THRESHOLD), hex"00");
        vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
        post(honest, signatures);
    }

    function testFuzz_SignersAscendStrictly(uint8 first, uint8 second, uint8 third) public {
        uint256[3] memory order = [first % keys.length, second % keys.length, third % keys.length];
        bytes32 digest = ledger.digest(honest);
        bytes memory signatures;
        for (uint256 i = 0; i < 3; i++) {
            signatures = bytes.concat(signatures, signatureBy(keys[order[i]], digest));
        }
        if (order[0] >= order[1] || order[1] >= order[2]) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IAuthoritySet.InvalidSignature.selector,
                    order[0] >= order[1] ? uint256(1) : uint256(2)
                )
            );
        }
        post(honest, signatures);
    }

    function testFuzz_AStrangersSignatureIsRefused(uint256 key) public {
        key = 1000 + (key % 1_000_000);
        bytes memory stranger = signatureBy(key, ledger.digest(honest));
        bytes memory signatures = bytes.concat(stranger, signaturesOf(honest, THRESHOLD - 1));
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        post(honest, signatures);
    }

    function test_AMalleatedSignatureIsRefused() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[0], ledger.digest(honest));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory high = abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        for (uint256 i = 0; i < 65; i++) signatures[i] = high[i];
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        post(honest, signatures);
    }

    function test_ASignatureThatRecoversNobodyIsRefused() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        signatures[64] = 0;
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        post(honest, signatures);
    }

    function testFuzz_AFlippedBitInASignatureIsRefused(uint256 bit) public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        bit %= signatures.length * 8;
        signatures[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        vm.expectRevert();
        post(honest, signatures);
    }

    function testFuzz_AFlippedBitInTheSignedMessageIsRefused(uint256 bit) public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        bytes memory arguments = abi.encode(signatures, alone(honest));
        // The settlement is the last of the arguments.
        bit = (arguments.length - abi.encode(honest).length) * 8 + (bit % (abi.encode(honest).length * 8));
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (bool accepted, ) = address(ledger).call(bytes.concat(ISettlement.post.selector, arguments));
        vm.assertFalse(accepted, "the altered message");
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (accepted, ) = address(ledger).call(bytes.concat(ISettlement.post.selector, arguments));
        vm.assertTrue(accepted, "the signed message");
    }

    function test_SignaturesForAnotherChainAreRefused() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        vm.chainId(block.chainid + 1);
        vm.expectRevert();
        post(honest, signatures);
        accept(honest);
    }

    function test_SignaturesForAnotherContractAreRefused() public {
        bytes memory signatures = signaturesOf(honest, THRESHOLD);
        ILedger other = deploy(LENGTH_S, 0, THRESHOLD, VETO_THRESHOLD, authorities());
        other.registerRegion(REGION, "bangkok", CAP_WH, START);
        honest.prevInterval = 0;
        honest.prevRoot = 0;
        honest.intervalCreditWh = honest.cumulativeCreditWh;
        signatures = signaturesOf(honest, THRESHOLD);
        vm.expectRevert();
        other.post(signatures, alone(honest));
    }

    function test_ARecordIsReplacedAfter256Intervals() public {
        ISettlementTypes.Record memory old = recordOf(honest);
        accept(honest);
        postLeaves(REGION, 255, leavesOf(list(100, 250, 350)));
        vm.assertTrue(ledger.isAccepted(REGION, old));
        postLeaves(REGION, 1, leavesOf(list(100, 250, 350)));
        vm.assertFalse(ledger.isAccepted(REGION, old));
    }

    function accept(ISettlementTypes.Settlement memory settlement) private {
        post(settlement, signaturesOf(settlement, THRESHOLD));
        vm.assertTrue(ledger.isAccepted(settlement.region, recordOf(settlement)));
    }

    function refuse(ISettlementTypes.Settlement memory settlement, bytes memory revertData) private {
        bytes memory signatures = signaturesOf(settlement, THRESHOLD);
        vm.expectRevert(revertData);
        post(settlement, signatures);
    }
}
