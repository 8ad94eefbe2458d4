// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "../src/ISettlementTypes.sol";

/// @notice What `MerkleSumProof` does in assembly, in plain Solidity and by another way: by recursion from the root
/// down, and by asking of each node whether a leaf lies below it. Slow, for small trees.
library PlainSumProof {
    struct Proof {
        uint256 leafCount;
        ISettlementTypes.Leaf[] leaves;
        ISettlementTypes.Node[] nodes;
    }

    function holds(
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves,
        ISettlementTypes.Node[] memory nodes
    ) internal pure returns (bool) {
        if (leaves.length == 0) return false;
        for (uint256 i = 0; i < leaves.length; i++) {
            if (leaves[i].index >= record.leafCount) return false;
            if (i > 0 && leaves[i].index <= leaves[i - 1].index) return false;
        }
        Proof memory proof = Proof(record.leafCount, leaves, nodes);
        uint256 height = heightOf(record.leafCount);
        if (countGiven(proof, height) != nodes.length) return false;
        (bytes32 hash, uint256 sumWh, bool fits) = compute(proof, height, 0);
        return fits && hash == record.root && sumWh == record.cumulativeCreditWh;
    }

    /// @dev Hash and sum of the node at `level` and `position`, which lies above a leaf that is to be proven.
    function compute(
        Proof memory proof,
        uint256 level,
        uint256 position
    ) private pure returns (bytes32 hash, uint256 sumWh, bool fits) {
        if (level == 0) return leafOf(proof, position);
        uint256 left = 2 * position;
        if (left + 1 == widthOf(proof.leafCount, level - 1)) return compute(proof, level - 1, left);
        (bytes32 leftHash, uint256 leftWh, bool leftFits) = part(proof, level - 1, left);
        (bytes32 rightHash, uint256 rightWh, bool rightFits) = part(proof, level - 1, left + 1);
        sumWh = leftWh + rightWh;
        fits = leftFits && rightFits && sumWh <= type(uint64).max;
        hash = keccak256(abi.encodePacked(hex"01", leftHash, rightHash, uint64(leftWh), uint64(rightWh)));
    }

    function part(
        Proof memory proof,
        uint256 level,
        uint256 position
    ) private pure returns (bytes32, uint256, bool) {
        if (covers(proof, level, position)) return compute(proof, level, position);
        ISettlementTypes.Node memory node = proof.nodes[ordinalOf(proof, level, position)];
        return (node.hash, node.sumWh, true);
    }

    function leafOf(Proof memory proof, uint256 index) private pure returns (bytes32, uint256, bool) {
        for (uint256 i = 0; i < proof.leaves.length; i++) {
            ISettlementTypes.Leaf memory leaf = proof.leaves[i];
            if (leaf.index != index) continue;
            bytes memory preimage = abi.encodePacked(
                hex"00",
                leaf.index,
                leaf.account,
                leaf.creditWh,
                leaf.debitWh
            );
            return (keccak256(preimage), leaf.creditWh, true);
        }
        return (0, 0, false);
    }

    /// @dev Whether one of the leaves lies below the node.
    function covers(Proof memory proof, uint256 level, uint256 position) private pure returns (bool) {
        for (uint256 i = 0; i < proof.leaves.length; i++) {
            if (proof.leaves[i].index >> level == position) return true;
        }
        return false;
    }

    /// @dev Whether the proof has to give the node: it covers none of the leaves, but its sibling does.
    function isGiven(Proof memory proof, uint256 level, uint256 position) private pure returns (bool) {
        return !covers(proof, level, position) && covers(proof, level, position ^ 1);
    }

    function countGiven(Proof memory proof, uint256 height) private pure returns (uint256 count) {
        for (uint256 level = 0; level < height; level++) {
            for (uint256 position = 0; position < widthOf(proof.leafCount, level); position++) {
                if (isGiven(proof, level, position)) count++;
            }
        }
    }

    /// @dev The place in the proof of a node that it gives.
    function ordinalOf(
        Proof memory proof,
        uint256 level,
        uint256 position
    ) private pure returns (uint256 ordinal) {
        ordinal = countGiven(proof, level);
        for (uint256 before = 0; before < position; before++) {
            if (isGiven(proof, level, before)) ordinal++;
        }
    }

    function widthOf(uint256 leafCount, uint256 level) private pure returns (uint256) {
        return (leafCount + (1 << level) - 1) >> level;
    }

    function heightOf(uint256 leafCount) private pure returns (uint256 height) {
        while (widthOf(leafCount, height) > 1) height++;
    }
}
