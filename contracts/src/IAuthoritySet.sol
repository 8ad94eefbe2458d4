// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title The authorities: who they are, how many must sign, how they replace themselves
interface IAuthoritySet is ISettlementTypes {
    /// @notice A set of authorities took effect: `threshold` of `members` (ascending) must sign, `vetoThreshold`
    /// of them veto.
    event AuthoritySetChanged(uint32 indexed epoch, uint8 threshold, uint8 vetoThreshold, address[] members);
    /// @notice The set signed a rotation, which anyone can execute as of `executableAt`. It takes the place of one
    /// that waited before.
    event RotationProposed(uint32 indexed epoch, bytes32 indexed digest, uint64 executableAt);
    /// @notice Governance cancelled the rotation that waited.
    event RotationCancelled(bytes32 indexed digest);
    /// @notice The authority's signatures count no longer, in whatever set it is.
    event AuthoritySuspended(address indexed authority);
    /// @notice Governance lets the authority's signatures count again.
    event AuthorityReinstated(address indexed authority);

    /// @notice Authorities must be 1 to 32 non-zero addresses in strictly ascending order, none suspended;
    /// 1 <= threshold <= n; 1 <= vetoThreshold <= n - threshold, or 0 where that is 0.
    error InvalidAuthorities();
    /// @notice Signed for another set of authorities; `epoch` is the current one.
    error WrongEpoch(uint32 epoch);
    /// @notice Not as many 65-byte signatures as there have to be.
    error WrongSignatureCount();
    /// @notice Signature number `position` of those that belong together is malleable, malformed, not of an active
    /// authority, or its signer does not come strictly after the one before.
    error InvalidSignature(uint256 position);
    /// @notice The rotation was proposed before in this epoch: signatures over it count once.
    error RotationSpent();
    /// @notice No such rotation waits.
    error UnknownRotation();
    /// @notice The rotation can be executed as of `executableAt`.
    error RotationPending(uint64 executableAt);

    /// @notice Starts the delay of a rotation that the current set signed. It needs no governance, so that losing
    /// governance does not freeze the system; governance can cancel it.
    /// @param rotation Its epoch is the current one.
    /// @param signatures `threshold` signatures over `rotationDigest(rotation)`, as for a settlement.
    function proposeRotation(Rotation calldata rotation, bytes calldata signatures) external;

    /// @notice Puts the rotation into effect once its delay is over. Anyone may.
    function executeRotation(Rotation calldata rotation) external;

    /// @notice The current authorities, ascending, of which `threshold` must sign and `vetoThreshold` veto.
    function authoritySet()
        external
        view
        returns (uint32 epoch, uint8 threshold, uint8 vetoThreshold, address[] memory members);

    /// @notice How many members of the current set are not suspended.
    function activeAuthorities() external view returns (uint256);

    /// @notice Whether the address was suspended and not reinstated since. Its signatures do not count.
    function isSuspended(address authority) external view returns (bool);

    /// @notice The rotation that waits: its digest and the instant as of which it can be executed, or zeros.
    function pendingRotation() external view returns (bytes32 digest, uint64 executableAt);

    /// @notice The EIP-712 digest of `Rotation(uint32 epoch,uint8 threshold,uint8 vetoThreshold,address[]
    /// members)`.
    function rotationDigest(Rotation calldata rotation) external view returns (bytes32);

    /// @notice For how many seconds a rotation that the set signed waits: twice the window, so that what is pending
    /// when it is proposed matures under the set that can veto it.
    function rotationDelayS() external view returns (uint64);
}
