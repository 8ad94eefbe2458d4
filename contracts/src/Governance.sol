// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Equivocation} from "./Equivocation.sol";
import {IGovernance} from "./IGovernance.sol";
import {TipWord, TipWords} from "./TipWord.sol";
import {Vetoes} from "./Vetoes.sol";

/// @title Governance
/// @dev Owns `_nameTaken`; writes regions and the set of authorities. AccessManaged owns the manager's address.
abstract contract Governance is Vetoes, Equivocation, AccessManaged {
    uint256 private constant MAX_REGIONS = 256;
    uint256 private constant BETWEEN_PAUSES_S = 1 days;

    mapping(bytes32 nameHash => bool) private _nameTaken;

    /// @inheritdoc IGovernance
    function registerRegion(
        uint32 region,
        string calldata regionName,
        uint64 capWh,
        uint64 startInterval
    ) external restricted {
        uint256 nameLength = bytes(regionName).length;
        if (region == 0 || nameLength == 0 || nameLength > 31) revert InvalidRegion();
        if (startInterval % intervalLengthS != 0 || startInterval > type(uint48).max) revert InvalidRegion();
        if (_regionNumbers.length == MAX_REGIONS) revert InvalidRegion();
        bytes32 nameHash = keccak256(bytes(regionName));
        Region storage stored = _regions[region];
        if (stored.tip.capWh() != 0 || _nameTaken[nameHash]) revert RegionExists(region);

        _nameTaken[nameHash] = true;
        _regionNumbers.push(region);
        stored.name = regionName;
        stored.tip = _withCap(stored, capWh);
        stored.startInterval = uint48(startInterval);
        emit RegionRegistered(region, regionName, capWh, startInterval);
    }

    /// @inheritdoc IGovernance
    function setCap(uint32 region, uint64 capWh) external restricted {
        Region storage stored = _registered(region);
        stored.tip = _withCap(stored, capWh);
        emit CapChanged(region, capWh);
    }

    /// @inheritdoc IGovernance
    function pauseRegion(uint32 region) external restricted {
        Region storage stored = _registered(region);
        uint256 from = uint256(stored.pausedUntil) + BETWEEN_PAUSES_S;
        if (block.timestamp < from) revert PausedRecently(uint64(from));
        _pause(region, stored);
    }

    /// @inheritdoc IGovernance
    function resumeRegion(uint32 region) external restricted {
        Region storage stored = _registered(region);
        if (block.timestamp >= stored.pausedUntil) revert NotPaused();
        stored.pausedUntil = uint40(block.timestamp);
        emit RegionResumed(region);
    }

    /// @inheritdoc IGovernance
    function ruleVeto(uint32 region, uint32 round, bool founded) external restricted {
        address[] memory signers = _vetoSigners[region][round];
        if (signers.length == 0) revert UnknownVeto();
        delete _vetoSigners[region][round];
        if (!founded) for (uint256 i = 0; i < signers.length; i++) _suspend(signers[i]);
        emit VetoRuled(region, round, founded);

        Region storage stored = _regions[region];
        // The region was reopened without this ruling.
        if (round < stored.openRound) return;
        if (--stored.openVetoes == 0) _reopen(region, stored);
    }

    /// @inheritdoc IGovernance
    function rotateAuthorities(
        uint8 threshold,
        uint8 vetoThreshold,
        address[] calldata members,
        Drop[] calldata drops
    ) external restricted {
        _install(threshold, vetoThreshold, members);
        for (uint256 i = 0; i < drops.length; i++) {
            uint32 number = drops[i].settlement.region;
            Region storage region = _registered(number);
            if (_wasDropped(region, drops[i].settlement)) continue;
            _drop(region, drops[i].settlement, drops[i].parent);
            if (region.openVetoes == 0) _reopen(number, region);
        }
    }

    /// @inheritdoc IGovernance
    function cancelRotation() external restricted {
        _cancelRotation();
    }

    /// @inheritdoc IGovernance
    function reinstateAuthority(address authority) external restricted {
        if (!_suspended[authority]) revert NotSuspended();
        _reinstate(authority);
    }

    function _withCap(Region storage region, uint64 capWh) private view returns (TipWord) {
        if (capWh == 0 || capWh > TipWords.MAX_CAP_WH) revert InvalidCap();
        return region.tip.withCap(capWh);
    }
}
