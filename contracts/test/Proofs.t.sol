// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IClaims} from "../src/IClaims.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {PlainSumProof} from "./PlainSumProof.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice The contract's proofs, written in assembly, against the plain version: the same verdict over honest and
/// damaged proofs, also where the authorities sign a leaf count or a total that is not the tree's.
contract ProofsTest is SettlementTest {
    using SumTree for SumTree.Tree;

    struct Case {
        ISettlementTypes.Record record;
        ISettlementTypes.Leaf[] leaves;
        ISettlementTypes.Node[] nodes;
    }

    function testFuzz_ABatchIsAcceptedExactlyWhereThePlainVersionDoes(
        uint256 seed,
        uint256 chosen,
        uint256 damage
    ) public {
        Case memory tried = caseFrom(seed, chosen, damage);
        bool expected = PlainSumProof.holds(tried.record, tried.leaves, tried.nodes);
        if (damage % 10 == 0) vm.assertTrue(expected, "an honest proof");
        (bool accepted, bytes memory answer) = address(ledger).call(
            abi.encodeCall(IClaims.claimBatch, (REGION, tried.record, tried.leaves, tried.nodes))
        );
        vm.assertTrue(accepted == expected, "the two versions differ");
        if (!accepted) vm.assertTrue(bytes4(answer) == IClaims.InvalidProof.selector);
    }

    function testFuzz_ASingleProofIsAcceptedExactlyWhereThePlainVersionDoes(
        uint256 seed,
        uint256 index,
        uint256 damage
    ) public {
        Case memory tried = caseFrom(seed, 1 << (index % 24), damage);
        if (tried.leaves.length != 1) return;
        bool expected = PlainSumProof.holds(tried.record, tried.leaves, tried.nodes);
        if (damage % 10 == 0) vm.assertTrue(expected, "an honest proof");
        bool accepted = ledger.verify(REGION, tried.record, tried.leaves[0], tried.nodes);
        vm.assertTrue(accepted == expected, "the two versions differ");
    }

    /// @dev A tree of 1 to 24 leaves, of which a subset is proven, with at most one thing wrong.
    function caseFrom(uint256 seed, uint256 chosen, uint256 damage) private returns (Case memory tried) {
        uint256 count = 1 + (seed % 24);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, count));
        uint256[] memory indices = indicesFrom(chosen, count);
        tried.leaves = new ISettlementTypes.Leaf[](indices.length);
        for (uint256 i = 0; i < indices.length; i++) tried.leaves[i] = leaves[indices[i]];
        tried.nodes = SumTree.build(leaves).multiproof(indices);

        uint256 kind = damage % 10;
        uint256 detail = damage >> 8;
        ISettlementTypes.Settlement memory settlement = settlementOf(REGION, 1, leaves);
        if (kind == 1) settlement.leafCount = uint32(1 + (detail % 40));
        if (kind == 2 && settlement.cumulativeCreditWh > 0) {
            settlement.cumulativeCreditWh--;
            settlement.intervalCreditWh--;
        }
        post(settlement, signaturesOf(settlement, THRESHOLD));
        tried.record = recordOf(settlement);
        damageCase(tried, kind, detail);
    }

    function damageCase(Case memory tried, uint256 kind, uint256 detail) private pure {
        ISettlementTypes.Leaf memory leaf = tried.leaves[detail % tried.leaves.length];
        uint256 bit = 1 << ((detail >> 8) % 64);
        if (kind == 3) leaf.index ^= uint32(1 << ((detail >> 8) % 6));
        if (kind == 4) leaf.creditWh ^= uint64(bit);
        if (kind == 5) leaf.debitWh ^= uint64(bit);
        if (kind == 6 && tried.leaves.length > 1) tried.leaves[0] = tried.leaves[tried.leaves.length - 1];
        if (kind == 9) tried.nodes = resized(tried.nodes, detail % 2 == 0);
        if (tried.nodes.length == 0) return;
        ISettlementTypes.Node memory node = tried.nodes[detail % tried.nodes.length];
        if (kind == 7) node.hash ^= bytes32(bit);
        if (kind == 8) node.sumWh ^= uint64(bit);
    }

    /// @dev One node more, which repeats the last one, or one less.
    function resized(
        ISettlementTypes.Node[] memory nodes,
        bool longer
    ) private pure returns (ISettlementTypes.Node[] memory other) {
        if (!longer && nodes.length == 0) return nodes;
        other = new ISettlementTypes.Node[](longer ? nodes.length + 1 : nodes.length - 1);
        for (uint256 i = 0; i < other.length && nodes.length > 0; i++) {
            other[i] = nodes[i < nodes.length ? i : nodes.length - 1];
        }
    }

    /// @dev The places of the bits of `chosen` below `count`; the first leaf where there is none.
    function indicesFrom(uint256 chosen, uint256 count) private pure returns (uint256[] memory indices) {
        chosen %= 1 << count;
        if (chosen == 0) chosen = 1;
        uint256 size = 0;
        for (uint256 i = 0; i < count; i++) size += (chosen >> i) & 1;
        indices = new uint256[](size);
        uint256 next = 0;
        for (uint256 i = 0; i < count; i++) if ((chosen >> i) & 1 == 1) indices[next++] = i;
    }
}
