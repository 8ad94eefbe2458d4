// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "./IAuthoritySet.sol";
import {IClaims} from "./IClaims.sol";
import {IGovernance} from "./IGovernance.sol";
import {IVetoes} from "./IVetoes.sol";

/// @title Gridroot settlement: what the authorities attest, what the contract accepts, what a customer claims
/// @notice Every interval a region's authorities attest one Merkle sum tree over the cumulative credits of its
/// accounts. The contract chains the attested roots per region, holds each open to veto for a window, and mints
/// each account the part of its proven credit that it was not minted yet.
interface ISettlement is IAuthoritySet, IVetoes, IGovernance, IClaims {
    /// @notice A settlement was accepted; it can be claimed from once its window is over. Once per (region, round,
    /// interval).
    /// @param numbers From the highest bit: round u32, leafCount u32, intervalCreditWh u64, cumulativeCreditWh u64,
    /// cumulativeDebitWh u64. In words of their own they would cost each post 1,000 gas more.
    event Settled(
        uint32 indexed region,
        uint64 indexed interval,
        bytes32 root,
        bytes32 contentHash,
        bytes32 dataHash,
        bytes32 numbers
    );

    /// @notice The interval is shorter than a minute, the window longer than 30 days, or the manager has no code.
    error InvalidDeployment();
    /// @notice A transaction posts 1 to 256 settlements.
    error InvalidPost();
    /// @notice No region has this number.
    error UnknownRegion(uint32 region);
    /// @notice Everything in the transaction was accepted before, this settlement first: nothing is left to do.
    error AlreadySettled(uint32 region, uint64 interval);
    /// @notice The settlement belongs to another round; `round` is the current one.
    error WrongRound(uint32 round);
    /// @notice The settlement does not continue the tip, which is at `interval` with `root`.
    error WrongParent(uint64 interval, bytes32 root);
    /// @notice Off the grid, not after the tip (or the region's start), or later than `block.timestamp`.
    error InvalidInterval(uint64 interval);
    /// @notice A total fell, or `intervalCreditWh` is not the difference of the cumulative credits.
    error InvalidTotals();
    /// @notice More credit than the region's cap allows for the intervals elapsed.
    error CapExceeded(uint256 allowedWh);
    /// @notice A tree has at least one leaf.
    error EmptyTree();
    /// @notice The settlement would take the ring slot of a record that is pending until `validAt`.
    error RingFull(uint64 validAt);
    /// @notice The region neither takes posts nor pays claims before `until`, unless it is resumed.
    error RegionPaused(uint64 until);
    /// @notice A veto against the region waits for a ruling: it takes no posts.
    error RegionStopped(uint32 region);
    /// @notice The region does not retain the record.
    error UnknownRecord();
    /// @notice The record was dropped, and the region was not reopened since; after that it is unknown.
    error RecordDropped();
    /// @notice The record can be claimed from as of `validAt`.
    error RecordPending(uint64 validAt);

    /// @notice Accepts settlements that each continue their region's tip. Anyone may relay. One that was accepted
    /// before with the same content and is retained is skipped, whatever its signatures; anything else that is not
    /// valid reverts the transaction.
    /// @param signatures For each settlement `threshold` signatures `r | s | v` of 65 bytes over
    /// `digest(settlement)`, by active authorities of the current epoch in strictly ascending order of their
    /// addresses; one settlement's after the other's.
    /// @param settlements 1 to 256, of one region or of several.
    function post(bytes calldata signatures, Settlement[] calldata settlements) external;

    /// @notice The state the region's next settlement must continue. Reverts for an unknown region.
    function tip(uint32 region) external view returns (Tip memory);

    /// @notice What was registered, and what was minted. Reverts for an unknown region.
    function regionInfo(uint32 region) external view returns (RegionInfo memory);

    /// @notice The numbers of all regions, in order of registration; at most 256.
    function regions() external view returns (uint32[] memory);

    /// @notice Whether the region retains exactly this record, pending or not. The record's content hash binds its
    /// round.
    function isAccepted(uint32 region, Record calldata record) external view returns (bool);

    /// @notice Whether the record can be claimed from, if its region is not paused, and as of when. `Pending` too
    /// while a pause keeps it open to veto.
    function recordStatus(
        uint32 region,
        Record calldata record
    ) external view returns (RecordStatus status, uint64 validAt);

    /// @notice The ring slot that `interval` maps to, whatever interval it holds: validAt in the upper 48 bits,
    /// then 26 bytes of the record's hash.
    function recordSlot(uint32 region, uint64 interval) external view returns (bytes32);

    /// @notice The hash of everything in the settlement but `authoritySetEpoch`.
    function contentHash(Settlement calldata settlement) external pure returns (bytes32);

    /// @notice The EIP-712 digest that authorities sign.
    function digest(Settlement calldata settlement) external view returns (bytes32);

    /// @notice The length of an interval in seconds; `interval` is a multiple of it.
    function intervalLengthS() external view returns (uint64);

    /// @notice For how many seconds a record is open to veto before it can be claimed from.
    function windowS() external view returns (uint64);
}
