// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IGovernance} from "./IGovernance.sol";
import {Posting} from "./Posting.sol";

/// @title Governance
/// @dev Owns `_nameTaken`; writes regions, and the set of authorities.
abstract contract Governance is Posting, AccessManaged {
    uint256 private constant MAX_REGIONS = 256;

    mapping(bytes32 nameHash => bool) private _nameTaken;

    /// @inheritdoc IGovernance
    function registerRegion(
        uint32 region,
        string calldata regionName,
        uint64 capWh,
        uint64 startInterval
    ) external restricted {
        uint256 nameLength = bytes(regionName).length;
        if (region == 0 || capWh == 0 || capWh > type(uint48).max) revert InvalidRegion();
        if (nameLength == 0 || nameLength > 31 || _regionNumbers.length == MAX_REGIONS)
            revert InvalidRegion();
        if (startInterval % intervalLengthS != 0 || startInterval > type(uint48).max) revert InvalidRegion();
        bytes32 nameHash = keccak256(bytes(regionName));
        Region storage stored = _regions[region];
        if (stored.capWh != 0 || _nameTaken[nameHash]) revert RegionExists(region);

        _nameTaken[nameHash] = true;
        _regionNumbers.push(region);
        stored.name = regionName;
        stored.capWh = uint48(capWh);
        stored.startInterval = uint48(startInterval);
        emit RegionRegistered(region, regionName, capWh, startInterval);
    }
}
