// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Eip712Domain} from "./Eip712Domain.sol";
import {IAuthoritySet} from "./IAuthoritySet.sol";

/// @title The set of authorities and their signatures
/// @dev Owns `_set`, `_members` and `_authorities`.
abstract contract AuthoritySet is IAuthoritySet, Eip712Domain {
    uint256 private constant MAX_AUTHORITIES = 32;
    uint256 internal constant SIGNATURE_LENGTH = 65;
    /// @dev Half the order of secp256k1: of the two values of s that verify only the lower one counts.
    uint256 private constant MAX_LOW_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    struct Terms {
        uint32 epoch;
        uint8 threshold;
        uint8 vetoThreshold;
        uint8 activeCount;
    }

    struct Authority {
        // The latest epoch whose set the address is a member of.
        uint32 epoch;
        bool suspended;
    }

    Terms internal _set;
    address[] private _members;
    mapping(address authority => Authority) internal _authorities;

    constructor(uint8 threshold, uint8 vetoThreshold, address[] memory members) {
        _install(1, threshold, vetoThreshold, members);
    }

    /// @inheritdoc IAuthoritySet
    function authoritySet()
        external
        view
        returns (uint32 epoch, uint8 threshold, uint8 vetoThreshold, address[] memory members)
    {
        return (_set.epoch, _set.threshold, _set.vetoThreshold, _members);
    }

    /// @inheritdoc IAuthoritySet
    function isSuspended(address authority) external view returns (bool) {
        return _authorities[authority].suspended;
    }

    function _install(uint32 epoch, uint8 threshold, uint8 vetoThreshold, address[] memory members) internal {
        uint256 count = members.length;
        if (count > MAX_AUTHORITIES || threshold == 0 || threshold > count) revert InvalidAuthorities();
        uint256 spare = count - threshold;
        if (vetoThreshold > spare || (vetoThreshold == 0 && spare != 0)) revert InvalidAuthorities();
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            if (members[i] <= previous || _authorities[members[i]].suspended) revert InvalidAuthorities();
            previous = members[i];
            _authorities[previous].epoch = epoch;
        }
        _members = members;
        _set = Terms({
            epoch: epoch,
            threshold: threshold,
            vetoThreshold: vetoThreshold,
            activeCount: uint8(count)
        });
        emit AuthoritySetChanged(epoch, threshold, vetoThreshold, members);
    }

    /// @dev Strictly ascending signers are distinct, so at most 32 signatures are ever checked.
    function _requireSignatures(
        bytes32 signed,
        bytes calldata signatures,
        uint256 count,
        uint32 epoch
    ) internal view {
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            bytes calldata signature = signatures[i * SIGNATURE_LENGTH:(i + 1) * SIGNATURE_LENGTH];
            bytes32 s = bytes32(signature[32:64]);
            // A failed recovery gives address 0, which is never above the one before.
            address signer = ecrecover(signed, uint8(signature[64]), bytes32(signature[0:32]), s);
            Authority memory authority = _authorities[signer];
            if (
                signer <= previous ||
                uint256(s) > MAX_LOW_S ||
                authority.epoch != epoch ||
                authority.suspended
            ) {
                revert InvalidSignature(i);
            }
            previous = signer;
        }
    }
}
