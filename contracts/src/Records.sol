// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlement} from "./ISettlement.sol";
import {TipWord} from "./TipWord.sol";

/// @title Regions, their tips and the rings of their records
/// @dev Owns `_regions` and `_regionNumbers`. A record lies in its region's ring at (interval / length) % 256, as
/// `validAt u48 | 26 bytes of keccak256(record)`. validAt rises strictly from record to record of a region, also
/// across vetoes, so that one number tells what a veto dropped.
abstract contract Records is ISettlement {
    uint256 internal constant RING_SIZE = 256;
    /// @dev Bits of a ring slot below validAt.
    uint256 internal constant COMMITMENT_BITS = 208;
    uint256 internal constant PAUSE_LENGTH_S = 7 days;

    struct Region {
        // Slot 0, read and written by posts.
        TipWord tip;
        // Slot 1, the tip's, read and written by posts.
        bytes32 root;
        // Slot 2, read and written by claims. `claimedTotalWh` is the highest total of a record that was claimed
        // from. While vetoes wait for a ruling, `droppedAfter` is not 0, and records with a later validAt are
        // dropped. Whoever sets it or `pausedUntil` marks the tip as held.
        uint64 mintedWh;
        uint64 claimedTotalWh;
        uint40 droppedAfter;
        uint40 pausedUntil;
        // Slot 3, read by the region's first post, by vetoes and rulings. `droppedInterval` is the interval of the
        // latest dropped record, `stoppedEpoch` the epoch of the latest veto; vetoes of rounds below `openRound`
        // wait for nothing.
        uint48 startInterval;
        uint48 droppedInterval;
        uint32 openVetoes;
        uint32 stoppedEpoch;
        uint32 openRound;
        // Slot 4, at most 31 bytes.
        string name;
        // Slots 5 to 260.
        bytes32[RING_SIZE] ring;
    }

    /// @inheritdoc ISettlement
    uint64 public immutable intervalLengthS;
    /// @inheritdoc ISettlement
    uint64 public immutable windowS;

    mapping(uint32 region => Region) internal _regions;
    uint32[] internal _regionNumbers;

    constructor(uint64 intervalLengthS_, uint64 windowS_) {
        // From a minute on, the number of an interval fits its 32 bits for 8,000 years.
        if (intervalLengthS_ < 1 minutes || windowS_ > 30 days) revert InvalidDeployment();
        intervalLengthS = intervalLengthS_;
        windowS = windowS_;
    }

    /// @inheritdoc ISettlement
    function tip(uint32 region) external view returns (Tip memory) {
        Region storage stored = _registered(region);
        TipWord word = stored.tip;
        uint64 interval = uint64(word.index() * intervalLengthS);
        return
            Tip({
                round: uint32(word.round()),
                interval: interval,
                root: stored.root,
                cumulativeCreditWh: uint64(word.creditWh()),
                cumulativeDebitWh: uint64(word.debitWh()),
                recordSlot: interval == 0 ? bytes32(0) : stored.ring[_ringIndex(interval)]
            });
    }

    /// @inheritdoc ISettlement
    function regionInfo(uint32 region) external view returns (RegionInfo memory) {
        Region storage stored = _registered(region);
        return
            RegionInfo({
                name: stored.name,
                capWh: uint64(stored.tip.capWh()),
                startInterval: stored.startInterval,
                mintedWh: stored.mintedWh,
                pausedUntil: stored.pausedUntil,
                openVetoes: stored.openVetoes
            });
    }

    /// @inheritdoc ISettlement
    function regions() external view returns (uint32[] memory) {
        return _regionNumbers;
    }

    /// @inheritdoc ISettlement
    function isAccepted(uint32 region, Record calldata record) external view returns (bool) {
        return _isRetained(region, record);
    }

    /// @inheritdoc ISettlement
    function recordStatus(
        uint32 region,
        Record calldata record
    ) external view returns (RecordStatus status, uint64 validAt) {
        Region storage stored = _regions[region];
        bytes32 slot = stored.ring[_ringIndex(record.interval)];
        if (_committed(slot) != _commitment(record)) return (RecordStatus.Unknown, 0);
        validAt = _validAt(slot);
        if (_isDropped(stored, slot)) status = RecordStatus.Dropped;
        else if (_isOpenToVeto(stored, slot)) status = RecordStatus.Pending;
        else status = RecordStatus.Claimable;
    }

    /// @inheritdoc ISettlement
    function recordSlot(uint32 region, uint64 interval) external view returns (bytes32) {
        return _regions[region].ring[_ringIndex(interval)];
    }

    function _registered(uint32 region) internal view returns (Region storage stored) {
        stored = _regions[region];
        if (stored.tip.capWh() == 0) revert UnknownRegion(region);
    }

    /// @dev Whether the ring holds the record and no veto dropped it; it may be pending.
    function _isRetained(uint32 region, Record calldata record) internal view returns (bool) {
        Region storage stored = _regions[region];
        bytes32 slot = stored.ring[_ringIndex(record.interval)];
        return _committed(slot) == _commitment(record) && !_isDropped(stored, slot);
    }

    /// @dev The region of a record that may be claimed from: retained, mature, not dropped, not paused.
    function _claimable(uint32 region, Record calldata record) internal view returns (Region storage stored) {
        stored = _regions[region];
        bytes32 slot = stored.ring[_ringIndex(record.interval)];
        if (_committed(slot) != _commitment(record)) revert UnknownRecord();
        if (_isDropped(stored, slot)) revert RecordDropped();
        if (block.timestamp < _validAt(slot)) revert RecordPending(_validAt(slot));
        if (block.timestamp < stored.pausedUntil) revert RegionPaused(stored.pausedUntil);
    }

    function _isDropped(Region storage stored, bytes32 slot) internal view returns (bool) {
        uint256 droppedAfter = stored.droppedAfter;
        return droppedAfter != 0 && _validAt(slot) > droppedAfter;
    }

    /// @dev Pending, or matured since the pause that is not over yet began.
    function _isOpenToVeto(Region storage stored, bytes32 slot) internal view returns (bool) {
        uint256 pausedUntil = stored.pausedUntil;
        if (block.timestamp < _validAt(slot)) return true;
        return block.timestamp < pausedUntil && _validAt(slot) > pausedUntil - PAUSE_LENGTH_S;
    }

    function _ringIndex(uint64 interval) internal view returns (uint256) {
        return (interval / intervalLengthS) % RING_SIZE;
    }

    function _ringSlot(uint256 validAt, bytes26 commitment) internal pure returns (bytes32) {
        return bytes32((validAt << COMMITMENT_BITS) | uint208(commitment));
    }

    function _validAt(bytes32 slot) internal pure returns (uint48) {
        return uint48(uint256(slot) >> COMMITMENT_BITS);
    }

    function _committed(bytes32 slot) internal pure returns (bytes26) {
        return bytes26(slot << 48);
    }

    /// @dev Unclean bits of calldata make a hash that no record has.
    function _commitment(Record calldata record) internal pure returns (bytes26 commitment) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            calldatacopy(words, record, 0xc0)
            commitment := shl(48, shr(48, keccak256(words, 0xc0)))
        }
    }
}
