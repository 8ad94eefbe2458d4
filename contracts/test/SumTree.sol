// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "../src/ISettlementTypes.sol";

/// @notice A plain builder of Merkle sum trees and their proofs, written apart from the verifier it tests.
library SumTree {
    struct Tree {
        ISettlementTypes.Node[][] levels;
    }

    function build(ISettlementTypes.Leaf[] memory leaves) internal pure returns (Tree memory tree) {
        ISettlementTypes.Node[] memory level = new ISettlementTypes.Node[](leaves.length);
        for (uint256 i = 0; i < leaves.length; i++) {
            ISettlementTypes.Leaf memory leaf = leaves[i];
            level[i] = ISettlementTypes.Node(
                keccak256(abi.encodePacked(hex"00", leaf.index, leaf.account, leaf.creditWh, leaf.debitWh)),
                leaf.creditWh
            );
        }
        tree.levels = new ISettlementTypes.Node[][](height(leaves.length));
        tree.levels[0] = level;
        for (uint256 i = 1; i < tree.levels.length; i++) tree.levels[i] = parents(tree.levels[i - 1]);
    }

    function root(Tree memory tree) internal pure returns (ISettlementTypes.Node memory) {
        return tree.levels[tree.levels.length - 1][0];
    }

    function proof(Tree memory tree, uint256 index) internal pure returns (ISettlementTypes.Node[] memory) {
        uint256[] memory indices = new uint256[](1);
        indices[0] = index;
        return multiproof(tree, indices);
    }

    /// @dev A node belongs to the proof if its sibling is known, and it is not. Known are the leaves asked for, and
    /// every node above a known one.
    function multiproof(
        Tree memory tree,
        uint256[] memory indices
    ) internal pure returns (ISettlementTypes.Node[] memory nodes) {
        nodes = new ISettlementTypes.Node[](indices.length * tree.levels.length);
        uint256 count = 0;
        bool[] memory known = new bool[](tree.levels[0].length);
        for (uint256 i = 0; i < indices.length; i++) known[indices[i]] = true;
        for (uint256 depth = 0; depth + 1 < tree.levels.length; depth++) {
            ISettlementTypes.Node[] memory level = tree.levels[depth];
            bool[] memory above = new bool[](tree.levels[depth + 1].length);
            for (uint256 i = 0; i < level.length; i++) {
                uint256 sibling = i ^ 1;
                if (known[i]) above[i / 2] = true;
                else if (sibling < level.length && known[sibling]) nodes[count++] = level[i];
            }
            known = above;
        }
        assembly {
            mstore(nodes, count)
        }
    }

    function parents(
        ISettlementTypes.Node[] memory level
    ) private pure returns (ISettlementTypes.Node[] memory above) {
        above = new ISettlementTypes.Node[]((level.length + 1) / 2);
        for (uint256 i = 0; i < above.length; i++) {
            ISettlementTypes.Node memory left = level[2 * i];
            if (2 * i + 1 == level.length) {
                above[i] = left;
                continue;
            }
            ISettlementTypes.Node memory right = level[2 * i + 1];
            bytes32 hash = keccak256(
                abi.encodePacked(hex"01", left.hash, right.hash, left.sumWh, right.sumWh)
            );
            above[i] = ISettlementTypes.Node(hash, left.sumWh + right.sumWh);
        }
    }

    function height(uint256 width) private pure returns (uint256 levels) {
        levels = 1;
        for (; width > 1; width = (width + 1) / 2) levels++;
    }
}
