// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IVetoes} from "./IVetoes.sol";
import {Posting} from "./Posting.sol";

/// @title Evidence of equivocation
/// @dev Owns `_proven`; writes a region's pause and an authority's suspension.
abstract contract Equivocation is Posting {
    /// @dev What was acted upon: keccak256(authority, region, round, interval) for a suspension, so that the same
    /// evidence does not undo a reinstatement, and keccak256(epoch, region) for a pause by k signers of each content,
    /// so that those of one set cannot pause a region again and again.
    mapping(bytes32 => bool) private _proven;

    /// @inheritdoc IVetoes
    function reportEquivocation(
        Settlement calldata settlement,
        bytes calldata signatures,
        Settlement calldata other,
        bytes calldata otherSignatures
    ) external {
        Region storage region = _registered(settlement.region);
        bytes32 content = _contentHash(settlement);
        bytes32 otherContent = _contentHash(other);
        if (
            content == otherContent ||
            settlement.region != other.region ||
            settlement.round != other.round ||
            settlement.interval != other.interval
        ) revert NotEquivocation();
        address[] memory signers = _membersWhoSigned(_digest(settlement), signatures);
        address[] memory others = _membersWhoSigned(_digest(other), otherSignatures);

        bool acted = _suspendCommon(signers, others, settlement, content, otherContent);
        uint256 threshold = _set.threshold;
        bool compromised =
            signers.length >= threshold &&
                others.length >= threshold &&
                // A pause that runs would hide the one that this evidence can bring.
                block.timestamp >= region.pausedUntil &&
                _isFirst(keccak256(abi.encode(_set.epoch, settlement.region)));
        if (!acted && !compromised) revert NothingProven();
        if (compromised || _activeCount() < threshold) _pause(settlement.region, region);
    }

    /// @dev A pause that runs already is neither lengthened nor started anew.
    function _pause(uint32 number, Region storage region) internal {
        if (block.timestamp < region.pausedUntil) return;
        uint64 until = uint64(block.timestamp + PAUSE_LENGTH_S);
        region.pausedUntil = uint40(until);
        region.tip = region.tip.held();
        emit RegionPausedUntil(number, until);
    }

    /// @dev Both lists ascend, so that one walk along them finds who is in both. Returns whether anybody was
    /// suspended.
    function _suspendCommon(
        address[] memory signers,
        address[] memory others,
        Settlement calldata settlement,
        bytes32 content,
        bytes32 otherContent
    ) private returns (bool acted) {
        uint256 j = 0;
        for (uint256 i = 0; i < signers.length; i++) {
            while (j < others.length && others[j] < signers[i]) j++;
            if (j == others.length) break;
            if (others[j] != signers[i] || _suspended[signers[i]]) continue;
            if (!_isFirst(_placeOf(signers[i], settlement))) continue;
            _suspend(signers[i]);
            acted = true;
            emit Equivocated(
                signers[i],
                settlement.region,
                settlement.round,
                settlement.interval,
                content,
                otherContent
            );
        }
    }

    function _isFirst(bytes32 fact) private returns (bool first) {
        first = !_proven[fact];
        _proven[fact] = true;
    }

    function _placeOf(address authority, Settlement calldata settlement) private pure returns (bytes32) {
        return keccak256(abi.encode(authority, settlement.region, settlement.round, settlement.interval));
    }
}
