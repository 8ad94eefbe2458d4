// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title What governance may do
/// @notice Who that is, function by function and after which delay, an OpenZeppelin AccessManager says. Callers that
/// it does not let through are refused with its AccessManagedUnauthorized.
interface IGovernance is ISettlementTypes {
    /// @notice A region may now be settled.
    event RegionRegistered(uint32 indexed region, string name, uint64 capWh, uint64 startInterval);
    /// @notice The region's cap per interval is another one, from the next post on.
    event CapChanged(uint32 indexed region, uint64 capWh);
    /// @notice Governance ruled on a veto; one that was unfounded suspended its signers.
    event VetoRuled(uint32 indexed region, uint32 indexed round, bool founded);
    /// @notice A pause ended before its time.
    event RegionResumed(uint32 indexed region);

    /// @notice Number 0, a start off the interval grid or above 2^48 - 1, a name not of 1 to 31 bytes, or one region
    /// too many: there are at most 256.
    error InvalidRegion();
    /// @notice A cap is above 0 and below 2^39 Wh (549 GWh).
    error InvalidCap();
    /// @notice The region's number or its name is taken.
    error RegionExists(uint32 region);
    /// @notice The region cannot be paused again before `from`: claims get through for a day between two pauses.
    error PausedRecently(uint64 from);
    /// @notice The region is not paused.
    error NotPaused();
    /// @notice No veto that ended this round of the region waits for a ruling.
    error UnknownVeto();
    /// @notice The authority is not suspended.
    error NotSuspended();

    /// @notice Registers a region. Role: caps.
    /// @param capWh The most credit one interval of the region can add; it scales with elapsed intervals.
    /// @param startInterval The aligned instant from which the region's energy counts. The first settlement ends
    /// after it and is capped by the intervals from it.
    function registerRegion(uint32 region, string calldata name, uint64 capWh, uint64 startInterval) external;

    /// @notice Changes a region's cap. Role: caps.
    function setCap(uint32 region, uint64 capWh) external;

    /// @notice Refuses posts to the region and claims from it for 7 days, never vetoes nor transfers. A record that
    /// matures meanwhile stays open to veto until the pause ends. Role: pause.
    function pauseRegion(uint32 region) external;

    /// @notice Ends a pause. Role: pause.
    function resumeRegion(uint32 region) external;

    /// @notice Rules on the veto that ended the round. An unfounded one suspends its signers. After the last open
    /// one the region takes posts again; what was dropped stays dropped. Role: rulings.
    function ruleVeto(uint32 region, uint32 round, bool founded) external;

    /// @notice Replaces the authorities at once. Role: authority set.
    /// @param drops Pending records to drop with their successors, as a veto would, but without stopping the region.
    /// One that an open veto has dropped is skipped, so that a veto cannot hold up the replacement.
    function rotateAuthorities(
        uint8 threshold,
        uint8 vetoThreshold,
        address[] calldata members,
        Drop[] calldata drops
    ) external;

    /// @notice Cancels the rotation that waits; its signatures do not count again. Role: authority set.
    function cancelRotation() external;

    /// @notice Lets a suspended authority's signatures count again. Role: authority set.
    function reinstateAuthority(address authority) external;
}
