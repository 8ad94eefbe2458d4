// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title Vetoes against pending records, and evidence of equivocation
interface IVetoes is ISettlementTypes {
    /// @notice A veto stopped the region until governance rules on it under (region, round).
    event Vetoed(uint32 indexed region, uint32 indexed round, uint64 interval, address[] signers);
    /// @notice The record of `interval` and all after it were dropped. `round` is over; the region continues from
    /// the record of `parentInterval`.
    event RecordsDropped(uint32 indexed region, uint32 round, uint64 interval, uint64 parentInterval);
    /// @notice The region takes posts again.
    event RegionReopened(uint32 indexed region, uint32 round);
    /// @notice The authority signed two contents for one region, round and interval.
    event Equivocated(
        address indexed authority,
        uint32 indexed region,
        uint32 round,
        uint64 interval,
        bytes32 contentHash,
        bytes32 otherContentHash
    );
    /// @notice The region neither takes posts nor pays claims before `until`, unless it is resumed.
    event RegionPausedUntil(uint32 indexed region, uint64 until);

    /// @notice The record is mature: it can no longer be vetoed.
    error RecordMature(uint64 validAt);
    /// @notice What was given as the record before is not the one that the settlement continued.
    error InvalidParent();
    /// @notice The set has as many members as have to sign: none can veto.
    error NoVeto();
    /// @notice The two are the same content, or not for the same region, round and interval.
    error NotEquivocation();
    /// @notice Nobody signed both who is not suspended already and was not before for this region, round and interval;
    /// and the region is not to be paused for it, or is paused.
    error NothingProven();
    /// @notice No veto waits, or the set has not replaced itself since the last one.
    error NotReopenable();

    /// @notice Drops a pending record and its successors, restores the totals of its parent, and stops posts to the
    /// region until governance rules. Claims go on.
    /// @param settlement What the record was posted from.
    /// @param parent The record before; ignored where the settlement is the region's first, and where a later record
    /// has taken the parent's ring slot, after which `cumulativeDebitWh` is 0.
    /// @param signatures `vetoThreshold` signatures over `vetoDigest`, as for a settlement.
    function veto(Settlement calldata settlement, Record calldata parent, bytes calldata signatures) external;

    /// @notice Suspends every authority that signed both contents, once for each region, round and interval. The
    /// region is paused where as many signed each as the threshold asks for, once in an epoch, or where a suspension
    /// leaves fewer than that active. A pause that runs is not lengthened. Anyone may report.
    /// @param signatures By members of the current set, suspended or not, in strictly ascending order; as many as
    /// there are.
    function reportEquivocation(
        Settlement calldata settlement,
        bytes calldata signatures,
        Settlement calldata other,
        bytes calldata otherSignatures
    ) external;

    /// @notice Reopens a region that a veto stopped, without a ruling, where the set has replaced itself since:
    /// losing governance does not freeze the region. Anyone may.
    function reopenAfterRotation(uint32 region) external;

    /// @notice Who signed the veto that ended the round and waits for a ruling; none where none waits.
    function vetoSigners(uint32 region, uint32 round) external view returns (address[] memory);

    /// @notice The EIP-712 digest of `Veto(uint32 region,uint32 round,uint64 interval,bytes32 settlementHash,uint32
    /// epoch)`, where settlementHash is the settlement's content hash and epoch the current one.
    function vetoDigest(Settlement calldata settlement) external view returns (bytes32);
}
