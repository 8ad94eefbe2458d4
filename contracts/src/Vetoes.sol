// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IVetoes} from "./IVetoes.sol";
import {Posting} from "./Posting.sol";
import {TipWord} from "./TipWord.sol";

/// @title Vetoes: how pending records are dropped, and how a region is reopened
/// @dev Owns `_vetoSigners`; writes a region's tip, what it says about drops, and its ring.
abstract contract Vetoes is Posting {
    bytes32 private constant VETO_TYPEHASH = keccak256(
        "Veto(uint32 region,uint32 round,uint64 interval,bytes32 settlementHash,uint32 epoch)"
    );

    /// @dev Who signed the veto that ended the round, until it is ruled on.
    mapping(uint32 region => mapping(uint32 round => address[])) internal _vetoSigners;

    /// @inheritdoc IVetoes
    function veto(
        Settlement calldata settlement,
        Record calldata parent,
        bytes calldata signatures
    ) external {
        uint256 vetoThreshold = _set.vetoThreshold;
        if (vetoThreshold == 0) revert NoVeto();
        address[] memory signers = _activeWhoSigned(_vetoDigest(settlement), signatures, vetoThreshold);
        Region storage region = _registered(settlement.region);
        uint32 round = uint32(region.tip.round());
        _drop(region, settlement, parent);
        region.openVetoes++;
        region.stoppedEpoch = _set.epoch;
        _vetoSigners[settlement.region][round] = signers;
        emit Vetoed(settlement.region, round, settlement.interval, signers);
    }

    /// @inheritdoc IVetoes
    function reopenAfterRotation(uint32 region) external {
        Region storage stored = _registered(region);
        if (stored.openVetoes == 0 || _set.selfRotatedEpoch <= stored.stoppedEpoch) revert NotReopenable();
        stored.openVetoes = 0;
        stored.openRound = uint32(stored.tip.round());
        _reopen(region, stored);
    }

    /// @inheritdoc IVetoes
    function vetoSigners(uint32 region, uint32 round) external view returns (address[] memory) {
        return _vetoSigners[region][round];
    }

    /// @inheritdoc IVetoes
    function vetoDigest(Settlement calldata settlement) external view returns (bytes32) {
        return _vetoDigest(settlement);
    }

    /// @dev Drops the record and its successors in a bounded number of steps: the tip becomes the parent, and every
    /// later validAt is void. Their ring slots are cleared when the region is reopened.
    function _drop(Region storage region, Settlement calldata settlement, Record calldata parent) internal {
        bytes32 slot = region.ring[_ringIndex(settlement.interval)];
        if (_committed(slot) != _commitmentOf(settlement)) revert UnknownRecord();
        if (_isDropped(region, slot)) revert RecordDropped();
        if (!_isOpenToVeto(region, slot)) revert RecordMature(_validAt(slot));
        uint64 debitWh = _parentDebitWh(region, settlement, parent, slot);

        TipWord tipWord = region.tip;
        if (region.droppedAfter == 0) region.droppedInterval = uint48(tipWord.index() * intervalLengthS);
        region.droppedAfter = uint40(_validAt(slot) - 1);
        region.root = settlement.prevRoot;
        region.tip = tipWord
            .continued(
                settlement.prevInterval / intervalLengthS,
                settlement.cumulativeCreditWh - settlement.intervalCreditWh,
                debitWh,
                tipWord.lastValidAt()
            )
            .nextRound();
        emit RecordsDropped(
            settlement.region,
            uint32(tipWord.round()),
            settlement.interval,
            settlement.prevInterval
        );
    }

    /// @dev Whether a veto that waits for a ruling dropped the record.
    function _wasDropped(Region storage region, Settlement calldata settlement) internal view returns (bool) {
        bytes32 slot = region.ring[_ringIndex(settlement.interval)];
        return _committed(slot) == _commitmentOf(settlement) && _isDropped(region, slot);
    }

    /// @dev Clears the slots of dropped records, at most the whole ring, so that they cannot mature.
    function _reopen(uint32 number, Region storage region) internal {
        uint256 droppedAfter = region.droppedAfter;
        TipWord tipWord = region.tip;
        uint256 first = tipWord.index() + 1;
        if (first == 1) first = region.startInterval / intervalLengthS + 1;
        uint256 last = region.droppedInterval / intervalLengthS;
        if (last - first >= RING_SIZE) first = last - RING_SIZE + 1;
        for (uint256 i = first; i <= last; i++) {
            if (_validAt(region.ring[i % RING_SIZE]) > droppedAfter) delete region.ring[i % RING_SIZE];
        }
        region.droppedAfter = 0;
        region.droppedInterval = 0;
        emit RegionReopened(number, uint32(tipWord.round()));
    }

    /// @dev The only part of the parent that the settlement does not bind. A later record may have taken the
    /// parent's slot, which is empty if that record was dropped and cleared; then debits may fall back as far as 0,
    /// which bounds no claim.
    function _parentDebitWh(
        Region storage region,
        Settlement calldata settlement,
        Record calldata parent,
        bytes32 slot
    ) private view returns (uint64) {
        if (settlement.prevInterval == 0) return 0;
        bytes32 parentSlot = region.ring[_ringIndex(settlement.prevInterval)];
        if (parentSlot == 0 || _validAt(parentSlot) >= _validAt(slot)) return 0;
        if (parent.interval != settlement.prevInterval || _committed(parentSlot) != _commitment(parent)) {
            revert InvalidParent();
        }
        return parent.cumulativeDebitWh;
    }

    function _vetoDigest(Settlement calldata settlement) private view returns (bytes32) {
        return
            _typedDigest(
                keccak256(
                    abi.encode(
                        VETO_TYPEHASH,
                        settlement.region,
                        settlement.round,
                        settlement.interval,
                        _contentHash(settlement),
                        _set.epoch
                    )
                )
            );
    }
}
