// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice Several settlements in one transaction.
contract PostManyTest is WindowTest {
    ISettlementTypes.Settlement[] internal batch;

    function setUp() public override {
        super.setUp();
        batch.push(next(REGION));
        batch.push(next(OTHER_REGION));
    }

    function test_RegionsTravelTogether() public {
        postBatch();
        for (uint256 i = 0; i < 2; i++) assertAccepted(batch[i]);
    }

    function test_IntervalsOfARegionTravelInTheirOrder() public {
        batch.push(after_(batch[0]));
        postBatch();
        vm.assertEq(ledger.tip(REGION).interval, batch[2].interval);
        vm.assertEq(ledger.tip(REGION).cumulativeCreditWh, 200);
        vm.assertEq(validAtOf(batch[2]), validAtOf(batch[0]) + 1);
    }

    function test_WhatIsAcceptedAlreadyIsSkipped() public {
        post(batch[0], signaturesOf(batch[0], THRESHOLD));
        bytes32 slot = ledger.recordSlot(REGION, batch[0].interval);
        vm.warp(block.timestamp + 60);
        postBatch();
        assertAccepted(batch[1]);
        vm.assertEq(ledger.recordSlot(REGION, batch[0].interval), slot);
    }

    /// @dev Its signatures are not looked at: whoever was faster may have used others.
    function test_WhatIsSkippedNeedsNoGoodSignatures() public {
        post(batch[0], signaturesOf(batch[0], THRESHOLD));
        bytes memory signatures = bytes.concat(new bytes(THRESHOLD * 65), signaturesOf(batch[1], THRESHOLD));
        ledger.post(signatures, batch);
        assertAccepted(batch[1]);
    }

    function test_WhereNothingIsNewItReverts() public {
        postBatch();
        bytes memory signatures = batchSignatures();
        vm.expectRevert(
            abi.encodeWithSelector(ISettlement.AlreadySettled.selector, REGION, batch[0].interval)
        );
        ledger.post(signatures, batch);
    }

    function test_OneThatIsInvalidRevertsAll() public {
        batch[1].round = 1;
        bytes memory signatures = batchSignatures();
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongRound.selector, uint32(0)));
        ledger.post(signatures, batch);
        vm.assertEq(ledger.tip(REGION).interval, 0);
    }

    function test_SignaturesOfOneDoNotCountForAnother() public {
        bytes memory signatures = bytes.concat(
            signaturesOf(batch[1], THRESHOLD),
            signaturesOf(batch[0], THRESHOLD)
        );
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        ledger.post(signatures, batch);
    }

    function test_ThereAreOneTo256() public {
        vm.expectRevert(ISettlement.InvalidPost.selector);
        ledger.post("", new ISettlementTypes.Settlement[](0));
        vm.expectRevert(ISettlement.InvalidPost.selector);
        ledger.post("", new ISettlementTypes.Settlement[](257));
        vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
        ledger.post("", new ISettlementTypes.Settlement[](256));
        bytes memory signatures = signaturesOf(batch[0], THRESHOLD);
        vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
        ledger.post(signatures, batch);
    }

    /// @dev Words are hashed as they stand in calldata, so that a number beyond its type is refused, signed or not.
    function testFuzz_NumbersFitTheirTypes(uint256 word, uint256 bit) public {
        // Words of the settlement, and the bits of their types.
        uint256[9] memory words = [uint256(0), 1, 2, 3, 6, 7, 8, 9, 11];
        uint256[9] memory bits = [uint256(32), 32, 64, 64, 64, 64, 64, 32, 32];
        word %= 9;
        bit = bits[word] + (bit % (256 - bits[word]));
        bytes memory settlement = abi.encode(batch[0]);
        uint256 at = 32 * words[word] + 31 - bit / 8;
        settlement[at] ^= bytes1(uint8(1 << (bit % 8)));
        bytes32 typehash = keccak256(
            "Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root,uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash,uint32 authoritySetEpoch)"
        );
        bytes32 digest = keccak256(
            bytes.concat(hex"1901", ledger.DOMAIN_SEPARATOR(), keccak256(bytes.concat(typehash, settlement)))
        );
        bytes memory signatures = signaturesFrom(0, THRESHOLD, digest);
        bytes memory arguments = abi.encode(signatures, alone(batch[0]));
        for (uint256 i = 0; i < settlement.length; i++) {
            arguments[arguments.length - settlement.length + i] = settlement[i];
        }
        (bool done, ) = address(ledger).call(bytes.concat(ISettlement.post.selector, arguments));
        vm.assertFalse(done, "a number beyond its type");
        vm.assertEq(ledger.tip(REGION).interval, 0);
    }

    function after_(
        ISettlementTypes.Settlement memory parent
    ) private view returns (ISettlementTypes.Settlement memory settlement) {
        settlement = settlementOf(parent.region, 2, leavesWith(parent.cumulativeCreditWh + 100));
        settlement.prevInterval = parent.interval;
        settlement.prevRoot = parent.root;
        settlement.intervalCreditWh = 100;
        settlement.cumulativeDebitWh = parent.cumulativeDebitWh;
    }

    function postBatch() private {
        ledger.post(batchSignatures(), batch);
    }

    function batchSignatures() private view returns (bytes memory signatures) {
        for (uint256 i = 0; i < batch.length; i++) {
            signatures = bytes.concat(signatures, signaturesOf(batch[i], THRESHOLD));
        }
    }

    function assertAccepted(ISettlementTypes.Settlement memory settlement) private view {
        vm.assertTrue(ledger.isAccepted(settlement.region, recordOf(settlement)));
        vm.assertEq(ledger.tip(settlement.region).interval, settlement.interval);
    }
}
