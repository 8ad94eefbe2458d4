// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Eip712Domain} from "./Eip712Domain.sol";
import {IAuthoritySet} from "./IAuthoritySet.sol";

/// @title The set of authorities, their signatures, and how they replace themselves
/// @dev Owns `_set`, `_suspended`, `_rotation` and `_rotationSpent`. The members are the code of a contract of their
/// own, because that is read at once: a slot each would cost every post 2,000 gas a signer. Keys are secp256k1 keys
/// only: what a contract says of a signature (ERC-1271) changes over time and is no evidence.
abstract contract AuthoritySet is IAuthoritySet, Eip712Domain {
    uint256 internal constant SIGNATURE_LENGTH = 65;
    uint256 private constant MAX_AUTHORITIES = 32;
    /// @dev Half the order of secp256k1: of the two values of s that verify only the lower one counts.
    uint256 private constant MAX_LOW_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    bytes32 private constant ROTATION_TYPEHASH = keccak256(
        "Rotation(uint32 epoch,uint8 threshold,uint8 vetoThreshold,address[] members)"
    );

    struct Set {
        // Slot 0: all that a signature is checked against.
        address roster;
        uint32 epoch;
        uint8 threshold;
        uint8 vetoThreshold;
        // Bit i: member i of the roster is suspended.
        uint32 suspendedMembers;
        // Slot 1: the epoch of the latest set that came by a rotation of its own, not by governance.
        uint32 selfRotatedEpoch;
    }

    /// @dev The current set, read once in a transaction.
    struct Signers {
        uint256 epoch;
        uint256 threshold;
        uint256 suspendedMembers;
        address[] members;
    }

    struct WaitingRotation {
        bytes32 digest;
        uint64 executableAt;
    }

    Set internal _set;
    mapping(address authority => bool) internal _suspended;
    WaitingRotation private _rotation;
    mapping(bytes32 digest => bool) private _rotationSpent;

    constructor(uint8 threshold, uint8 vetoThreshold, address[] memory members) {
        _install(threshold, vetoThreshold, members);
    }

    /// @inheritdoc IAuthoritySet
    function proposeRotation(Rotation calldata rotation, bytes calldata signatures) external {
        uint32 epoch = _set.epoch;
        if (rotation.epoch != epoch) revert WrongEpoch(epoch);
        bytes32 signed = _rotationDigest(rotation);
        _activeWhoSigned(signed, signatures, _set.threshold);
        if (_rotationSpent[signed]) revert RotationSpent();
        _requireValidSet(rotation.threshold, rotation.vetoThreshold, rotation.members);

        _rotationSpent[signed] = true;
        uint64 executableAt = uint64(block.timestamp) + rotationDelayS();
        _rotation = WaitingRotation({digest: signed, executableAt: executableAt});
        emit RotationProposed(epoch, signed, executableAt);
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
        return (_set.epoch, _set.threshold, _set.vetoThreshold, _members());
    }

    /// @inheritdoc IAuthoritySet
    function activeAuthorities() external view returns (uint256) {
        return _activeCount();
    }

    /// @inheritdoc IAuthoritySet
    function isSuspended(address authority) external view returns (bool) {
        return _suspended[authority];
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
        _set.roster = _deployRoster(members);
        _set.epoch = epoch;
        _set.threshold = threshold;
        _set.vetoThreshold = vetoThreshold;
        _set.suspendedMembers = 0;
        delete _rotation;
        emit AuthoritySetChanged(epoch, threshold, vetoThreshold, members);
    }

    function _cancelRotation() internal {
        if (_rotation.executableAt == 0) revert UnknownRotation();
        emit RotationCancelled(_rotation.digest);
        delete _rotation;
    }

    function _suspend(address authority) internal {
        if (_suspended[authority]) return;
        _suspended[authority] = true;
        _set.suspendedMembers |= _memberBit(authority);
        emit AuthoritySuspended(authority);
    }

    function _reinstate(address authority) internal {
        _suspended[authority] = false;
        _set.suspendedMembers &= ~_memberBit(authority);
        emit AuthorityReinstated(authority);
    }

    function _activeCount() internal view returns (uint256 count) {
        count = _members().length;
        for (uint256 mask = _set.suspendedMembers; mask != 0; mask &= mask - 1) count--;
    }

    /// @dev 0 for an address that is no member.
    function _memberBit(address authority) private view returns (uint32) {
        address[] memory members = _members();
        for (uint256 i = 0; i < members.length; i++) if (members[i] == authority) return uint32(1 << i);
        return 0;
    }

    function _signersOfCurrentSet() internal view returns (Signers memory) {
        return
            Signers({
                epoch: _set.epoch,
                threshold: _set.threshold,
                suspendedMembers: _set.suspendedMembers,
                members: _members()
            });
    }

    /// @dev `threshold` signatures by active members, strictly ascending as the members are: one walk along these
    /// finds all signers, and they are distinct. The caller has checked that there are as many at `signaturesAt`.
    /// Assembly, because a post spends a tenth of its own instructions here: docs/contracts.md has the figures, and
    /// `_activeWhoSigned` is the plain version that it is tested against.
    function _requireActive(bytes32 signed, uint256 signaturesAt, Signers memory signers) internal view {
        uint256 threshold = signers.threshold;
        uint256 suspendedMembers = signers.suspendedMembers;
        address[] memory members = signers.members;
        uint256 i = 0;
        assembly ("memory-safe") {
            let words := mload(0x40)
            let first := add(members, 0x20)
            let end := add(first, shl(5, mload(members)))
            let next := first
            mstore(words, signed)
            for {} lt(i, threshold) {
                i := add(i, 1)
            } {
                mstore(add(words, 0x20), byte(0, calldataload(add(signaturesAt, 0x40))))
                calldatacopy(add(words, 0x40), signaturesAt, 0x40)
                // Where recovery fails nothing is returned, and the 0, which is no member, stays.
                mstore(0, 0)
                pop(staticcall(gas(), 1, words, 0x80, 0, 0x20))
                let signer := mload(0)
                for {} lt(next, end) {
                    next := add(next, 0x20)
                } {
                    if eq(mload(next), signer) {
                        break
                    }
                }
                let isSuspended := and(shr(shr(5, sub(next, first)), suspendedMembers), 1)
                if or(or(eq(next, end), isSuspended), gt(mload(add(words, 0x60)), MAX_LOW_S)) {
                    break
                }
                next := add(next, 0x20)
                signaturesAt := add(signaturesAt, SIGNATURE_LENGTH)
            }
        }
        if (i < threshold) revert InvalidSignature(i);
    }

    /// @dev As before, for `count` signatures; returns the signers.
    function _activeWhoSigned(
        bytes32 signed,
        bytes calldata signatures,
        uint256 count
    ) internal view returns (address[] memory signers) {
        if (signatures.length != count * SIGNATURE_LENGTH) revert WrongSignatureCount();
        signers = _membersWhoSigned(signed, signatures);
        for (uint256 i = 0; i < count; i++) if (_suspended[signers[i]]) revert InvalidSignature(i);
    }

    /// @dev Members of the current set, suspended or not, strictly ascending: as many as there are signatures.
    function _membersWhoSigned(
        bytes32 signed,
        bytes calldata signatures
    ) internal view returns (address[] memory signers) {
        uint256 count = signatures.length / SIGNATURE_LENGTH;
        address[] memory members = _members();
        if (signatures.length != count * SIGNATURE_LENGTH || count > members.length) {
            revert WrongSignatureCount();
        }
        signers = new address[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < count; i++) {
            address signer = _recover(signed, _offsetOf(signatures) + i * SIGNATURE_LENGTH);
            next = _memberAfter(members, next, signer, i);
            signers[i] = signer;
        }
    }

    /// @dev One more than the place of the signer of signature `i` among the members from `next` on.
    function _memberAfter(
        address[] memory members,
        uint256 next,
        address signer,
        uint256 i
    ) private pure returns (uint256) {
        for (; next < members.length; next++) {
            if (members[next] == signer) return next + 1;
        }
        revert InvalidSignature(i);
    }

    function _offsetOf(bytes calldata data) internal pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := data.offset
        }
    }

    /// @dev Who made the signature at this place of calldata; 0, which is never above another address, where s is
    /// high or recovery fails.
    function _recover(bytes32 signed, uint256 signatureAt) private view returns (address signer) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, signed)
            mstore(add(words, 0x20), byte(0, calldataload(add(signatureAt, 0x40))))
            calldatacopy(add(words, 0x40), signatureAt, 0x40)
            mstore(0, 0)
            if iszero(gt(mload(add(words, 0x60)), MAX_LOW_S)) {
                // Where recovery fails nothing is returned, and the 0 stays.
                pop(staticcall(gas(), 1, words, 0x80, 0, 0x20))
            }
            signer := mload(0)
        }
    }

    function _members() private view returns (address[] memory members) {
        address roster = _set.roster;
        uint256 count = (roster.code.length - 1) / 32;
        members = new address[](count);
        assembly ("memory-safe") {
            extcodecopy(roster, add(members, 0x20), 1, mul(count, 0x20))
        }
    }

    /// @dev A contract whose code is STOP, so that nobody can call it, and the addresses in 32 bytes each.
    function _deployRoster(address[] memory members) private returns (address roster) {
        bytes memory code = bytes.concat(hex"00", abi.encodePacked(members));
        // PUSH2 length, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN: ten bytes that return what follows them.
        bytes memory creation = bytes.concat(hex"61", bytes2(uint16(code.length)), hex"80600a5f395ff3", code);
        assembly ("memory-safe") {
            roster := create(0, add(creation, 0x20), mload(creation))
            // It fails without the gas for it, or 1,024 calls deep: nobody could sign for a set without members.
            if iszero(roster) {
                revert(0, 0)
            }
        }
    }

    function _requireValidSet(uint8 threshold, uint8 vetoThreshold, address[] memory members) private view {
        uint256 count = members.length;
        if (count > MAX_AUTHORITIES || threshold == 0 || threshold > count) revert InvalidAuthorities();
        uint256 spare = count - threshold;
        if (vetoThreshold > spare || (vetoThreshold == 0 && spare != 0)) revert InvalidAuthorities();
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            if (members[i] <= previous || _suspended[members[i]]) revert InvalidAuthorities();
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
