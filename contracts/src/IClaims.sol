// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title Claims: a customer's proven credit becomes tokens
interface IClaims is ISettlementTypes {
    /// @notice `amountWh`, the part of the account's proven credit not minted before, was minted to it.
    /// Never emitted with 0. `mintedWh` is what the account was minted in this region so far.
    event Claimed(
        uint32 indexed region,
        address indexed account,
        uint64 indexed interval,
        uint64 amountWh,
        uint64 mintedWh
    );

    /// @notice Leaves and proof nodes do not give the record's root and sum, or their number is wrong.
    error InvalidProof();
    /// @notice More would be minted in the region than its authorities attested in all.
    error MintedAboveTotal();
    /// @notice Credit is not minted to the zero address.
    error ZeroAccount();

    /// @notice Mints the leaf's account what of its proven credit was not minted yet; nothing if there is
    /// nothing. Anyone may claim for anyone: the credit goes to the leaf's account.
    /// @param proof The siblings from the leaf to the root; a lone last node of a level has none.
    function claim(uint32 region, Record calldata record, Leaf calldata leaf, Node[] calldata proof) external;

    /// @notice Claims for many leaves of one record. Neighbours in the tree share proof nodes.
    /// @param leaves At least one, strictly ascending by index.
    /// @param proof The siblings that are not computed from the leaves, level by level, left to right.
    function claimBatch(
        uint32 region,
        Record calldata record,
        Leaf[] calldata leaves,
        Node[] calldata proof
    ) external;

    /// @notice Whether the region retains the record, pending or not, and the proof leads from the leaf to its
    /// root and sum. Never reverts for a decodable argument.
    function verify(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external view returns (bool);

    /// @notice What the account was minted from the region so far; it never falls.
    function mintedWh(uint32 region, address account) external view returns (uint64);
}
