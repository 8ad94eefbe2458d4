// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title Claims: a customer's proven credit becomes tokens
interface IClaims is ISettlementTypes {
    /// @notice A call minted `amountWh` in all, never nothing, from the region's record of `interval`. To whom, and to
    /// each how much, is in the `Transfer`s from the zero address since the transaction's previous `Claimed`: an
    /// event for each account besides would cost a batch of neighbours a sixth more.
    event Claimed(uint32 indexed region, uint64 indexed interval, uint64 amountWh);

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
