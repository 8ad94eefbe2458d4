// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title What governance may do; who that is, function by function, an OpenZeppelin AccessManager says
interface IGovernance is ISettlementTypes {
    /// @notice A region may now be settled.
    event RegionRegistered(uint32 indexed region, string name, uint64 capWh, uint64 startInterval);

    /// @notice Number 0, a cap of 0 or of 2^48 Wh and more, a start off the interval grid, a name not of 1 to 31
    /// bytes, or one region too many.
    error InvalidRegion();
    /// @notice The region's number or its name is taken.
    error RegionExists(uint32 region);

    /// @notice Registers a region.
    /// @param capWh The most credit one interval of the region can add; it scales with elapsed intervals.
    /// @param startInterval The aligned instant from which the region's energy counts. The first settlement ends
    /// after it and is capped by the intervals from it.
    function registerRegion(uint32 region, string calldata name, uint64 capWh, uint64 startInterval) external;
}
