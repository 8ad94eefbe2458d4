// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title Proofs of a Merkle sum tree over credits
/// @notice `leaf = keccak256(0x00 | index u32 | account | creditWh u64 | debitWh u64)` and
/// `node = keccak256(0x01 | left | right | sumLeft u64 | sumRight u64)`. The prefixes and the different lengths
/// keep a node from passing for a leaf. At a level of width w the node at w - 1 with w odd has no sibling and is
/// carried up. The leaf count is part of the signed record, so the length of a proof is fixed.
/// @dev Assembly, because a level costs a third of what it does in plain Solidity: docs/contracts.md has the
/// figures, and `contracts/test/PlainSumProof.sol` is the plain version that it is tested against.
///
/// Three facts carry the loops. With `last` the position of a level's last node, that of the next level is
/// `last / 2`; the node at `position` lacks a sibling only where `position == last` is even. A node that is read
/// beyond the end of the proof is harmless, because the number of consumed nodes is compared at the end. And
/// whatever does not fit its field is collected in `excess` and refused at the end, so that a preimage is only
/// trusted if all its fields had their own width.
library MerkleSumProof {
    /// @notice Whether the proof leads from the leaf to the record's root and sum.
    /// @dev At most 32 steps, as leafCount < 2^32.
    function holds(
        ISettlementTypes.Record calldata record,
        ISettlementTypes.Leaf calldata leaf,
        ISettlementTypes.Node[] calldata proof
    ) internal pure returns (bool valid) {
        (uint256 leafCount, uint256 rootSumWh, uint256 index) = (
            record.leafCount,
            record.cumulativeCreditWh,
            leaf.index
        );
        if (index >= leafCount) return false;
        bytes32 hash = leafHash(index, leaf.account, leaf.creditWh, leaf.debitWh);
        uint256 sumWh = leaf.creditWh;
        bytes32 root = record.root;
        assembly ("memory-safe") {
            let preimage := mload(0x40)
            mstore8(preimage, 1)
            let excess := 0
            let sibling := proof.offset
            for {
                let last := sub(leafCount, 1)
            } last {
                last := shr(1, last)
            } {
                if or(xor(index, last), and(last, 1)) {
                    let siblingSumWh := calldataload(add(sibling, 32))
                    switch and(index, 1)
                    case 0 {
                        mstore(add(preimage, 1), hash)
                        mstore(add(preimage, 33), calldataload(sibling))
                        mstore(add(preimage, 65), or(shl(192, sumWh), shl(128, siblingSumWh)))
                    }
                    default {
                        mstore(add(preimage, 1), calldataload(sibling))
                        mstore(add(preimage, 33), hash)
                        mstore(add(preimage, 65), or(shl(192, siblingSumWh), shl(128, sumWh)))
                    }
                    hash := keccak256(preimage, 81)
                    sumWh := add(sumWh, siblingSumWh)
                    excess := or(excess, or(siblingSumWh, sumWh))
                    sibling := add(sibling, 64)
                }
                index := shr(1, index)
            }
            let consumed := eq(sibling, add(proof.offset, shl(6, proof.length)))
            valid := and(and(consumed, iszero(shr(64, excess))), and(eq(hash, root), eq(sumWh, rootSumWh)))
        }
    }

    /// @notice Whether the nodes lead from the leaves, strictly ascending by index, to the record's root and sum.
    /// @dev A node is consumed wherever a sibling is neither computed nor missing from the tree, level by level,
    /// left to right. The work is bounded by 32 levels times the leaves in calldata.
    function holdsForAll(
        ISettlementTypes.Record calldata record,
        ISettlementTypes.Leaf[] calldata leaves,
        ISettlementTypes.Node[] calldata proof
    ) internal pure returns (bool) {
        uint256 leafCount = record.leafCount;
        if (leaves.length == 0) return false;
        (uint256 known, bool fit) = hashLeaves(leaves, leafCount);
        if (!fit) return false;
        (bytes32 hash, uint256 sumWh, bool consumed) = climb(known, leaves.length, leafCount, proof);
        return consumed && hash == record.root && sumWh == record.cumulativeCreditWh;
    }

    /// @dev What is known of a level lies in memory as pairs of words: the hash, then `index << 64 | sumWh`. The next
    /// level is written over it. A pair of zeros ends it, as no right sibling has index 0. The preimages are written
    /// into the 128 bytes before it.
    /// @return known Where the pairs of the leaves begin.
    /// @return fit Whether the leaves ascend strictly below the leaf count, and every field has its own width.
    function hashLeaves(
        ISettlementTypes.Leaf[] calldata leaves,
        uint256 leafCount
    ) private pure returns (uint256 known, bool fit) {
        assembly ("memory-safe") {
            let preimage := mload(0x40)
            known := add(preimage, 128)
            let end := known
            let excess := 0
            let previous := not(0)
            fit := 1
            let leaf := leaves.offset
            let leavesEnd := add(leaf, shl(7, leaves.length))
            for {} lt(leaf, leavesEnd) {
                leaf := add(leaf, 128)
            } {
                let index := calldataload(leaf)
                let account := calldataload(add(leaf, 32))
                let creditWh := calldataload(add(leaf, 64))
                let debitWh := calldataload(add(leaf, 96))
                fit := and(fit, slt(previous, index))
                excess := or(excess, or(shr(96, account), or(creditWh, debitWh)))
                mstore(preimage, or(shl(216, index), or(shl(56, account), shr(8, creditWh))))
                mstore(add(preimage, 32), or(shl(248, creditWh), shl(184, debitWh)))
                mstore(end, keccak256(preimage, 41))
                mstore(add(end, 32), or(shl(64, index), creditWh))
                previous := index
                end := add(end, 64)
            }
            mstore(add(end, 32), 0)
            mstore(0x40, add(end, 64))
            fit := and(and(fit, lt(previous, leafCount)), iszero(shr(64, excess)))
        }
    }

    /// @dev From the pairs of `count` leaves at `known` to the root.
    /// @return hash The root's.
    /// @return sumWh The root's.
    /// @return consumed Whether every node of the proof was used, and every sum fits its width.
    function climb(
        uint256 known,
        uint256 count,
        uint256 leafCount,
        ISettlementTypes.Node[] calldata proof
    ) private pure returns (bytes32 hash, uint256 sumWh, bool consumed) {
        assembly ("memory-safe") {
            let preimage := sub(known, 128)
            mstore8(preimage, 1)
            let end := add(known, shl(6, count))
            let excess := 0
            let node := proof.offset
            for {
                let last := sub(leafCount, 1)
            } last {
                last := shr(1, last)
            } {
                let above := known
                for {
                    let place := known
                } lt(place, end) {
                    above := add(above, 64)
                } {
                    hash := mload(place)
                    sumWh := mload(add(place, 32))
                    let index := shr(64, sumWh)
                    sumWh := and(sumWh, 0xffffffffffffffff)
                    place := add(place, 64)
                    if or(xor(index, last), and(last, 1)) {
                        let otherSumWh
                        switch and(index, 1)
                        case 0 {
                            let next := mload(add(place, 32))
                            mstore(add(preimage, 1), hash)
                            switch eq(shr(64, next), add(index, 1))
                            case 0 {
                                otherSumWh := calldataload(add(node, 32))
                                mstore(add(preimage, 33), calldataload(node))
                                node := add(node, 64)
                            }
                            default {
                                otherSumWh := and(next, 0xffffffffffffffff)
                                mstore(add(preimage, 33), mload(place))
                                place := add(place, 64)
                            }
                            mstore(add(preimage, 65), or(shl(192, sumWh), shl(128, otherSumWh)))
                        }
                        default {
                            otherSumWh := calldataload(add(node, 32))
                            mstore(add(preimage, 1), calldataload(node))
                            mstore(add(preimage, 33), hash)
                            mstore(add(preimage, 65), or(shl(192, otherSumWh), shl(128, sumWh)))
                            node := add(node, 64)
                        }
                        hash := keccak256(preimage, 81)
                        sumWh := add(sumWh, otherSumWh)
                        excess := or(excess, or(otherSumWh, sumWh))
                    }
                    mstore(above, hash)
                    mstore(add(above, 32), or(shl(64, shr(1, index)), and(sumWh, 0xffffffffffffffff)))
                }
                end := above
                mstore(add(end, 32), 0)
            }
            hash := mload(known)
            sumWh := mload(add(known, 32))
            consumed := eq(node, add(proof.offset, shl(6, proof.length)))
            consumed := and(consumed, iszero(shr(64, excess)))
        }
    }

    function leafHash(
        uint256 index,
        address account,
        uint64 creditWh,
        uint64 debitWh
    ) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), uint32(index), account, creditWh, debitWh));
    }
}
