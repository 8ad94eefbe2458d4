// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IClaims} from "../src/IClaims.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice One transaction each, so that the snapshot shows what a change costs. 100 accounts; the ring's slot is
/// fresh unless a name says warm.
contract GasTest is SettlementTest {
    using SumTree for SumTree.Tree;

    bytes internal freshPost;
    bytes internal warmPost;
    bytes internal firstClaim;
    bytes internal laterClaim;
    bytes internal firstBatchClaim;
    bytes internal laterBatchClaim;

    function setUp() public override {
        super.setUp();
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(1, 100));
        ISettlementTypes.Record memory first = postLeaves(REGION, 1, leaves);
        firstClaim = claimOf(first, leaves, 42);
        firstBatchClaim = batchClaimOf(REGION, first, leaves);
        call(claimOf(first, leaves, 43));

        ISettlementTypes.Leaf[] memory others = leavesOf(creditsFrom(2, 100));
        call(batchClaimOf(OTHER_REGION, postLeaves(OTHER_REGION, 1, others), others));
        for (uint256 i = 0; i < leaves.length; i++) {
            leaves[i].creditWh += 1000;
            others[i].creditWh += 1000;
        }
        laterClaim = claimOf(postLeaves(REGION, 1, leaves), leaves, 43);
        laterBatchClaim = batchClaimOf(OTHER_REGION, postLeaves(OTHER_REGION, 1, others), others);
        freshPost = postOf(settlementOf(REGION, 1, leaves));
        warmPost = postOf(settlementOf(REGION, 255, leaves));
    }

    function test_PostWithThreeSignaturesFreshSlot() public {
        measure(freshPost);
    }

    function test_PostWithThreeSignaturesWarmRing() public {
        measure(warmPost);
    }

    function test_FirstClaim() public {
        measure(firstClaim);
    }

    function test_LaterClaim() public {
        measure(laterClaim);
    }

    function test_HundredFirstClaims() public {
        measure(firstBatchClaim);
    }

    function test_HundredLaterClaims() public {
        measure(laterBatchClaim);
    }

    /// @dev Only the call counts, not reading its data from this contract's storage.
    function measure(bytes storage stored) private {
        vm.pauseGasMetering();
        bytes memory data = stored;
        vm.resumeGasMetering();
        call(data);
    }

    function call(bytes memory data) private {
        (bool done, ) = address(ledger).call(data);
        vm.assertTrue(done, "the measured call succeeds");
    }

    function postOf(ISettlementTypes.Settlement memory settlement) private view returns (bytes memory) {
        return abi.encodeCall(ISettlement.post, (signaturesOf(settlement, THRESHOLD), alone(settlement)));
    }

    function claimOf(
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves,
        uint256 index
    ) private pure returns (bytes memory) {
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(index);
        return abi.encodeCall(IClaims.claim, (REGION, record, leaves[index], proof));
    }

    function batchClaimOf(
        uint32 region,
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves
    ) private pure returns (bytes memory) {
        return abi.encodeCall(IClaims.claimBatch, (region, record, leaves, new ISettlementTypes.Node[](0)));
    }
}
