// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title The authorities: who they are, how many must sign, how they are replaced
interface IAuthoritySet is ISettlementTypes {
    /// @notice A set of authorities took effect: `threshold` of `members` (ascending) must sign, `vetoThreshold`
    /// of them veto.
    event AuthoritySetChanged(uint32 indexed epoch, uint8 threshold, uint8 vetoThreshold, address[] members);

    /// @notice Authorities must be 1 to 32 non-zero addresses in strictly ascending order, none suspended;
    /// 1 <= threshold <= n; 1 <= vetoThreshold <= n - threshold, or 0 where that is 0.
    error InvalidAuthorities();
    /// @notice Signed for another set of authorities; `epoch` is the current one.
    error WrongEpoch(uint32 epoch);
    /// @notice Not as many 65-byte signatures as there have to be.
    error WrongSignatureCount();
    /// @notice Signature number `position` is malleable, malformed, not of an active authority, or its signer does
    /// not come strictly after the one before.
    error InvalidSignature(uint256 position);

    /// @notice The current authorities, ascending, of which `threshold` must sign and `vetoThreshold` veto.
    function authoritySet()
        external
        view
        returns (uint32 epoch, uint8 threshold, uint8 vetoThreshold, address[] memory members);

    /// @notice Whether the address was suspended and not reinstated since. Its signatures do not count.
    function isSuspended(address authority) external view returns (bool);
}
