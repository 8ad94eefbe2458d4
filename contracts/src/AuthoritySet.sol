// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Eip712Domain} from "./Eip712Domain.sol";
import {IAuthoritySet} from "./IAuthoritySet.sol";

/// @title The set of authorities, their signatures, and how they replace themselves
/// @dev Owns `_set`, `_members`, `_authorities`, `_rotation` and `_rotationSpent`. Keys are secp256k1 keys only: what
/// a contract says of a signature (ERC-1271) changes over time and is no evidence.
abstract contract AuthoritySet is IAuthoritySet, Eip712Domain {
    uint256 internal constant SIGNATURE_LENGTH = 65;
    uint256 private constant MAX_AUTHORITIES = 32;
    /// @dev Half the order of secp256k1: of the two values of s that verify only the lower one counts.
    uint256 private constant MAX_LOW_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    bytes32 private constant ROTATION_TYPEHASH = keccak256(
        "Rotation(uint32 epoch,uint8 threshold,uint8 vetoThreshold,address[] members)"
    );

    struct Terms {
        uint32 epoch;
        uint8 threshold;
        uint8 vetoThreshold;
        uint8 activeCount;
        // The epoch of the latest set that came by a rotation of its own, not by governance.
        uint32 selfRotatedEpoch;
    }

    struct Authority {
        // The latest epoch whose set the address is a member of.
        uint32 epoch;
        bool suspended;
    }

    struct WaitingRotation {
        bytes32 digest;
        uint64 executableAt;
    }

    Terms internal _set;
    address[] private _members;
    mapping(address authority => Authority) internal _authorities;
    WaitingRotation private _rotation;
    mapping(bytes32 digest => bool) private _rotationSpent;

    constructor(uint8 threshold, uint8 vetoThreshold, address[] memory members) {
        _install(threshold, vetoThreshold, members);
    }

    /// @inheritdoc IAuthoritySet
    function proposeRotation(Rotation calldata rotation, bytes calldata signatures) external {
        Terms memory set = _set;
        if (rotation.epoch != set.epoch) revert WrongEpoch(set.epoch);
        bytes32 signed = _rotationDigest(rotation);
        _requireThreshold(signed, signatures, set.threshold);
        if (_rotationSpent[signed]) revert RotationSpent();
        _requireValidSet(rotation.threshold, rotation.vetoThreshold, rotation.members);

        _rotationSpent[signed] = true;
        uint64 executableAt = uint64(block.timestamp) + rotationDelayS();
        _rotation = WaitingRotation({digest: signed, executableAt: executableAt});
        emit RotationProposed(set.epoch, signed, executableAt);
    }

    /// @inheritdoc IAuthoritySet
    function executeRotation(Rotation calldata rotation) external {
        uint64 executableAt = _rotation.executableAt;
        if (executableAt == 0 || _rotation.digest != _rotationDigest(rotation)) revert UnknownRotation();
        if (block.timestamp < executableAt) revert RotationPending(executableAt);
        _install(rotation.threshold, rotation.vetoThreshold, rotation.members);
        _set.selfRotatedEpoch = _set.epoch;
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
    function activeAuthorities() external view returns (uint256) {
        return _set.activeCount;
    }

    /// @inheritdoc IAuthoritySet
    function isSuspended(address authority) external view returns (bool) {
        return _authorities[authority].suspended;
    }

    /// @inheritdoc IAuthoritySet
    function pendingRotation() external view returns (bytes32 digest, uint64 executableAt) {
        return (_rotation.digest, _rotation.executableAt);
    }

    /// @inheritdoc IAuthoritySet
    function rotationDigest(Rotation calldata rotation) external view returns (bytes32) {
        return _rotationDigest(rotation);
    }

    /// @inheritdoc IAuthoritySet
    function rotationDelayS() public view virtual returns (uint64);

    /// @dev A rotation that waits was signed by the set that goes, and goes with it.
    function _install(uint8 threshold, uint8 vetoThreshold, address[] memory members) internal {
        _requireValidSet(threshold, vetoThreshold, members);
        uint32 epoch = _set.epoch + 1;
        for (uint256 i = 0; i < members.length; i++) _authorities[members[i]].epoch = epoch;
        _members = members;
        _set.epoch = epoch;
        _set.threshold = threshold;
        _set.vetoThreshold = vetoThreshold;
        _set.activeCount = uint8(members.length);
        delete _rotation;
        emit AuthoritySetChanged(epoch, threshold, vetoThreshold, members);
    }

    function _cancelRotation() internal {
        if (_rotation.executableAt == 0) revert UnknownRotation();
        emit RotationCancelled(_rotation.digest);
        delete _rotation;
    }

    /// @dev Returns whether the authority was active.
    function _suspend(address authority) internal returns (bool) {
        if (_authorities[authority].suspended) return false;
        _authorities[authority].suspended = true;
        if (_isMember(authority)) _set.activeCount--;
        emit AuthoritySuspended(authority);
        return true;
    }

    function _reinstate(address authority) internal {
        _authorities[authority].suspended = false;
        if (_isMember(authority)) _set.activeCount++;
        emit AuthorityReinstated(authority);
    }

    function _isMember(address authority) internal view returns (bool) {
        return _authorities[authority].epoch == _set.epoch;
    }

    /// @dev The signers are as many as `threshold`, active members, and returned in ascending order.
    function _requireThreshold(
        bytes32 signed,
        bytes calldata signatures,
        uint256 threshold
    ) internal view returns (address[] memory signers) {
        if (signatures.length != threshold * SIGNATURE_LENGTH) revert WrongSignatureCount();
        signers = _membersWhoSigned(signed, signatures);
        for (uint256 i = 0; i < signers.length; i++) {
            if (_authorities[signers[i]].suspended) revert InvalidSignature(i);
        }
    }

    /// @dev Members of the current set, suspended or not, strictly ascending: as many as 32 at most.
    function _membersWhoSigned(
        bytes32 signed,
        bytes calldata signatures
    ) internal view returns (address[] memory signers) {
        uint256 count = signatures.length / SIGNATURE_LENGTH;
        if (signatures.length % SIGNATURE_LENGTH != 0 || count > MAX_AUTHORITIES)
            revert WrongSignatureCount();
        signers = new address[](count);
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            bytes calldata signature = signatures[i * SIGNATURE_LENGTH:(i + 1) * SIGNATURE_LENGTH];
            bytes32 s = bytes32(signature[32:64]);
            // A failed recovery gives address 0, which is never above the one before.
            address signer = ecrecover(signed, uint8(signature[64]), bytes32(signature[0:32]), s);
            if (signer <= previous || uint256(s) > MAX_LOW_S || !_isMember(signer)) {
                revert InvalidSignature(i);
            }
            previous = signer;
            signers[i] = signer;
        }
    }

    function _requireValidSet(uint8 threshold, uint8 vetoThreshold, address[] memory members) private view {
        uint256 count = members.length;
        if (count > MAX_AUTHORITIES || threshold == 0 || threshold > count) revert InvalidAuthorities();
        uint256 spare = count - threshold;
        if (vetoThreshold > spare || (vetoThreshold == 0 && spare != 0)) revert InvalidAuthorities();
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            if (members[i] <= previous || _authorities[members[i]].suspended) revert InvalidAuthorities();
            previous = members[i];
        }
    }

    function _rotationDigest(Rotation calldata rotation) private view returns (bytes32) {
        // EIP-712 encodes an array as its elements of 32 bytes each, which is what encodePacked makes of it.
        bytes32 members = keccak256(abi.encodePacked(rotation.members));
        return
            _typedDigest(
                keccak256(
                    abi.encode(
                        ROTATION_TYPEHASH,
                        rotation.epoch,
                        rotation.threshold,
                        rotation.vetoThreshold,
                        members
                    )
                )
            );
    }
}
