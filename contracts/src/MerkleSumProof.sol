// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlement} from "./ISettlement.sol";

/// @title Proofs of a Merkle sum tree over credits
/// @notice `leaf = keccak256(0x00 | index u32 | account | creditWh u64 | debitWh u64)` and
/// `node = keccak256(0x01 | left | right | sumLeft u64 | sumRight u64)`. The prefixes and the different lengths
/// keep a node from passing for a leaf. At a level of width w the node at w - 1 with w odd has no sibling and is
/// carried up. The leaf count is part of the signed record, so the length of a proof is fixed.
library MerkleSumProof {
    /// @dev A node of the path, or of the frontier of a multiproof.
    struct Place {
        uint256 index;
        bytes32 hash;
        uint256 sumWh;
    }

    /// @notice Whether the proof leads from the leaf to the record's root and sum.
    /// @dev At most 32 steps, as leafCount < 2^32.
    function holds(
        ISettlement.Record calldata record,
        ISettlement.Leaf calldata leaf,
        ISettlement.Node[] calldata proof
    ) internal pure returns (bool) {
        if (leaf.index >= record.leafCount) return false;
        Place memory place = leafPlace(leaf);
        uint256 used = 0;
        for (uint256 width = record.leafCount; width > 1; width = (width + 1) / 2) {
            bool isLeft = place.index % 2 == 0;
            if (!isLeft || place.index + 1 < width) {
                if (used == proof.length) return false;
                ISettlement.Node calldata sibling = proof[used++];
                if (!join(place, sibling.hash, sibling.sumWh, isLeft)) return false;
            }
            place.index /= 2;
        }
        return used == proof.length && place.hash == record.root && place.sumWh == record.cumulativeCreditWh;
    }

    /// @notice Whether the nodes lead from the leaves, strictly ascending by index, to the record's root and sum.
    /// @dev A node is consumed wherever a sibling is neither computed nor missing from the tree, level by level,
    /// left to right. The work is bounded by 32 levels times the leaves in calldata.
    function holdsForAll(
        ISettlement.Record calldata record,
        ISettlement.Leaf[] calldata leaves,
        ISettlement.Node[] calldata proof
    ) internal pure returns (bool) {
        uint256 count = leaves.length;
        if (count == 0) return false;
        Place[] memory frontier = new Place[](count);
        for (uint256 i = 0; i < count; i++) {
            if (i > 0 && leaves[i].index <= leaves[i - 1].index) return false;
            frontier[i] = leafPlace(leaves[i]);
        }
        if (leaves[count - 1].index >= record.leafCount) return false;

        uint256 used = 0;
        for (uint256 width = record.leafCount; width > 1; width = (width + 1) / 2) {
            uint256 parents = 0;
            for (uint256 i = 0; i < count; parents++) {
                Place memory place = frontier[i++];
                bool isLeft = place.index % 2 == 0;
                if (isLeft && i < count && frontier[i].index == place.index + 1) {
                    if (!join(place, frontier[i].hash, frontier[i].sumWh, true)) return false;
                    i++;
                } else if (!isLeft || place.index + 1 < width) {
                    if (used == proof.length) return false;
                    ISettlement.Node calldata sibling = proof[used++];
                    if (!join(place, sibling.hash, sibling.sumWh, isLeft)) return false;
                }
                place.index /= 2;
                frontier[parents] = place;
            }
            count = parents;
        }
        Place memory top = frontier[0];
        return used == proof.length && top.hash == record.root && top.sumWh == record.cumulativeCreditWh;
    }

    function leafPlace(ISettlement.Leaf calldata leaf) private pure returns (Place memory) {
        bytes32 hash = keccak256(
            abi.encodePacked(uint8(0), leaf.index, leaf.account, leaf.creditWh, leaf.debitWh)
        );
        return Place({index: leaf.index, hash: hash, sumWh: leaf.creditWh});
    }

    /// @dev Replaces the place's hash and sum by its parent's; false if the sum leaves 64 bits.
    function join(
        Place memory place,
        bytes32 siblingHash,
        uint256 siblingSumWh,
        bool placeIsLeft
    ) private pure returns (bool) {
        uint256 sumWh = place.sumWh + siblingSumWh;
        if (sumWh > type(uint64).max) return false;
        place.hash =
            placeIsLeft
                ? nodeHash(place.hash, siblingHash, uint64(place.sumWh), uint64(siblingSumWh))
                : nodeHash(siblingHash, place.hash, uint64(siblingSumWh), uint64(place.sumWh));
        place.sumWh = sumWh;
        return true;
    }

    function nodeHash(
        bytes32 left,
        bytes32 right,
        uint64 sumLeftWh,
        uint64 sumRightWh
    ) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(1), left, right, sumLeftWh, sumRightWh));
    }
}
