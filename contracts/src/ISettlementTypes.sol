// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title What the settlement contract is told and what it tells
/// @notice Energy is in Wh everywhere, instants are unix seconds.
interface ISettlementTypes {
    /// @notice The EIP-712 message the authorities sign. All but `authoritySetEpoch` is its content.
    /// @param region The number under which the region was registered, never 0.
    /// @param round Counts the times records of the region were dropped; 0 at first.
    /// @param interval The aligned end of the batch's last interval, unix seconds, at most `block.timestamp`.
    /// @param prevInterval The interval of the record before, 0 for the region's first.
    /// @param prevRoot The root of the record before, 0 for the region's first.
    /// @param root The root of the Merkle sum tree over the accounts' cumulative credits.
    /// @param intervalCreditWh What `cumulativeCreditWh` rose by since the record before.
    /// @param cumulativeCreditWh The sum of all leaves' credits; the root's sum.
    /// @param cumulativeDebitWh The sum of all leaves' debits.
    /// @param leafCount How many accounts the tree has, at least 1.
    /// @param dataHash keccak256 of the evidence file before compression.
    /// @param authoritySetEpoch The epoch of the set that signed.
    struct Settlement {
        uint32 region;
        uint32 round;
        uint64 interval;
        uint64 prevInterval;
        bytes32 prevRoot;
        bytes32 root;
        uint64 intervalCreditWh;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        uint32 leafCount;
        bytes32 dataHash;
        uint32 authoritySetEpoch;
    }

    /// @notice What a ring slot binds of an accepted settlement; it travels in calldata.
    /// @param contentHash `contentHash(settlement)`, which binds region and round.
    struct Record {
        bytes32 contentHash;
        bytes32 root;
        uint64 interval;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        uint32 leafCount;
    }

    /// @notice One account's totals in a record. Both only rise from record to record.
    /// @param index The account's place in the tree, from 0.
    /// @param debitWh Downward corrections only, never imported energy.
    struct Leaf {
        uint32 index;
        address account;
        uint64 creditWh;
        uint64 debitWh;
    }

    /// @notice A node of a proof and the sum of the credits below it.
    struct Node {
        bytes32 hash;
        uint64 sumWh;
    }

    /// @notice The state of a region that the next settlement must continue.
    /// @param recordSlot The ring slot of `interval`: validAt in the upper 48 bits, then 26 bytes of the
    /// record's hash; 0 before the region's first record. After a veto the slot may be a later record's, or 0, if such
    /// a one had taken it.
    struct Tip {
        uint32 round;
        uint64 interval;
        bytes32 root;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        bytes32 recordSlot;
    }

    /// @notice What was registered for a region, what its accounts were minted so far, and what holds it up.
    /// @param pausedUntil Posts and claims are refused before this instant; 0 where it was never paused.
    /// @param openVetoes Vetoes that wait for a ruling; while there are any, posts are refused.
    struct RegionInfo {
        string name;
        uint64 capWh;
        uint64 startInterval;
        uint64 mintedWh;
        uint64 pausedUntil;
        uint32 openVetoes;
    }

    /// @notice What the current authorities sign to be replaced.
    /// @param epoch The epoch of the set that signs.
    /// @param members Ascending; `threshold` of them sign, `vetoThreshold` veto.
    struct Rotation {
        uint32 epoch;
        uint8 threshold;
        uint8 vetoThreshold;
        address[] members;
    }

    /// @notice A pending record to drop: what it was posted from, and the record before it.
    struct Drop {
        Settlement settlement;
        Record parent;
    }

    /// @notice What a record is worth now. `Unknown`: never accepted, or its ring slot was taken by a later one, or
    /// cleared when the region was reopened after it was dropped.
    enum RecordStatus {
        Unknown,
        Pending,
        Claimable,
        Dropped
    }
}
