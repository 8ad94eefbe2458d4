// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AuthoritySet} from "./AuthoritySet.sol";
import {IAuthoritySet} from "./IAuthoritySet.sol";
import {ISettlement} from "./ISettlement.sol";
import {Records} from "./Records.sol";

/// @title Posting
/// @dev Owns no storage of its own; writes a region's tip and one slot of its ring.
abstract contract Posting is Records, AuthoritySet {
    uint256 private constant MAX_SETTLEMENTS = 256;
    bytes32 private constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root,uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash,uint32 authoritySetEpoch)"
    );

    /// @inheritdoc ISettlement
    function post(Settlement[] calldata settlements, bytes calldata signatures) external {
        uint256 count = settlements.length;
        if (count == 0 || count > MAX_SETTLEMENTS) revert InvalidPost();
        Terms memory set = _set;
        uint256 length = set.threshold * SIGNATURE_LENGTH;
        if (signatures.length != count * length) revert WrongSignatureCount();
        uint256 accepted = 0;
        for (uint256 i = 0; i < count; i++) {
            if (_post(settlements[i], signatures[i * length:(i + 1) * length], set)) accepted++;
        }
        if (accepted == 0) revert AlreadySettled(settlements[0].region, settlements[0].interval);
    }

    /// @inheritdoc IAuthoritySet
    function rotationDelayS() public view override(AuthoritySet, IAuthoritySet) returns (uint64) {
        return 2 * windowS;
    }

    /// @inheritdoc ISettlement
    function contentHash(Settlement calldata settlement) external pure returns (bytes32) {
        return _contentHash(settlement);
    }

    /// @inheritdoc ISettlement
    function digest(Settlement calldata settlement) external view returns (bytes32) {
        return _digest(settlement);
    }

    /// @dev Whether the settlement is new. Its record is retained already where it was posted before, by whoever
    /// was faster: that must not revert what travels with it.
    function _post(
        Settlement calldata settlement,
        bytes calldata signatures,
        Terms memory set
    ) private returns (bool) {
        Region storage region = _registered(settlement.region);
        bytes32 content = _contentHash(settlement);
        bytes26 commitment = _commitment(_recordOf(settlement, content));
        bytes32 slot = region.ring[_ringIndex(settlement.interval)];
        if (_committed(slot) == commitment && !_isDropped(region, slot)) return false;

        if (region.droppedAfter != 0) revert RegionStopped(settlement.region);
        if (block.timestamp < region.pausedUntil) revert RegionPaused(region.pausedUntil);
        _requireContinuation(region, settlement);
        if (_validAt(slot) > block.timestamp) revert RingFull(_validAt(slot));
        if (settlement.authoritySetEpoch != set.epoch) revert WrongEpoch(set.epoch);
        _requireThreshold(_digest(settlement), signatures, set.threshold);

        // Without a window nothing is ever pending, and nothing dropped.
        uint256 validAt = block.timestamp + windowS;
        if (windowS > 0 && validAt <= region.lastValidAt) validAt = uint256(region.lastValidAt) + 1;
        region.interval = uint48(settlement.interval);
        region.cumulativeCreditWh = settlement.cumulativeCreditWh;
        region.cumulativeDebitWh = settlement.cumulativeDebitWh;
        region.lastValidAt = uint48(validAt);
        region.root = settlement.root;
        region.ring[_ringIndex(settlement.interval)] = _ringSlot(validAt, commitment);
        emit Settled(
            settlement.region,
            settlement.interval,
            settlement.round,
            settlement.root,
            content,
            settlement.intervalCreditWh,
            settlement.cumulativeCreditWh,
            settlement.cumulativeDebitWh,
            settlement.leafCount,
            settlement.dataHash,
            uint64(validAt)
        );
        return true;
    }

    /// @dev prevInterval and prevRoot must both be the tip's: a night without credit repeats the root, so the
    /// root alone would let a stranger post i + 2 before i + 1.
    function _requireContinuation(Region storage region, Settlement calldata settlement) private view {
        uint64 parent = region.interval;
        uint64 interval = settlement.interval;
        if (settlement.round != region.round) revert WrongRound(region.round);
        if (settlement.prevInterval != parent || settlement.prevRoot != region.root) {
            revert WrongParent(parent, region.root);
        }
        uint64 from = parent == 0 ? region.startInterval : parent;
        if (interval <= from || interval % intervalLengthS != 0 || interval > block.timestamp) {
            revert InvalidInterval(interval);
        }
        if (settlement.leafCount == 0) revert EmptyTree();
        // In 256 bits, so that neither the sum nor the product can wrap.
        uint256 creditWh = uint256(region.cumulativeCreditWh) + settlement.intervalCreditWh;
        if (settlement.cumulativeCreditWh != creditWh) revert InvalidTotals();
        if (settlement.cumulativeDebitWh < region.cumulativeDebitWh) revert InvalidTotals();
        uint256 allowedWh = uint256(region.capWh) * ((interval - from) / intervalLengthS);
        if (settlement.intervalCreditWh > allowedWh) revert CapExceeded(allowedWh);
    }

    function _recordOf(
        Settlement calldata settlement,
        bytes32 content
    ) internal pure returns (Record memory) {
        return
            Record({
                contentHash: content,
                root: settlement.root,
                interval: settlement.interval,
                cumulativeCreditWh: settlement.cumulativeCreditWh,
                cumulativeDebitWh: settlement.cumulativeDebitWh,
                leafCount: settlement.leafCount
            });
    }

    function _contentHash(Settlement calldata settlement) internal pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    settlement.region,
                    settlement.round,
                    settlement.interval,
                    settlement.prevInterval,
                    settlement.prevRoot,
                    settlement.root,
                    settlement.intervalCreditWh,
                    settlement.cumulativeCreditWh,
                    settlement.cumulativeDebitWh,
                    settlement.leafCount,
                    settlement.dataHash
                )
            );
    }

    function _digest(Settlement calldata settlement) internal view returns (bytes32) {
        return _typedDigest(keccak256(abi.encode(SETTLEMENT_TYPEHASH, settlement)));
    }
}
