// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AuthoritySet} from "./AuthoritySet.sol";
import {IAuthoritySet} from "./IAuthoritySet.sol";
import {ISettlement} from "./ISettlement.sol";
import {Records} from "./Records.sol";
import {TipWord} from "./TipWord.sol";

/// @title Posting
/// @dev Owns no storage of its own; writes a region's tip and one slot of its ring.
abstract contract Posting is Records, AuthoritySet {
    uint256 private constant MAX_SETTLEMENTS = 256;
    bytes32 private constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root,uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash,uint32 authoritySetEpoch)"
    );

    /// @dev A settlement in memory: its words, of which `_load` has checked that they fit their types.
    struct Message {
        uint256 region;
        uint256 round;
        uint256 interval;
        uint256 prevInterval;
        bytes32 prevRoot;
        bytes32 root;
        uint256 intervalCreditWh;
        uint256 cumulativeCreditWh;
        uint256 cumulativeDebitWh;
        uint256 leafCount;
        bytes32 dataHash;
        uint256 authoritySetEpoch;
    }

    /// @inheritdoc ISettlement
    function post(bytes calldata signatures, Settlement[] calldata settlements) external {
        uint256 count = settlements.length;
        if (count == 0 || count > MAX_SETTLEMENTS) revert InvalidPost();
        Signers memory signers = _signersOfCurrentSet();
        uint256 length = signers.threshold * SIGNATURE_LENGTH;
        if (signatures.length != count * length) revert WrongSignatureCount();
        uint256 signaturesAt = _offsetOf(signatures);
        Message memory message = _messageBuffer();
        bool isAnyNew = false;
        for (uint256 i = 0; i < count;) {
            _load(message, settlements, i);
            if (_post(message, signaturesAt, signers)) isAnyNew = true;
            unchecked {
                i++;
                signaturesAt += length;
            }
        }
        if (!isAnyNew) revert AlreadySettled(settlements[0].region, settlements[0].interval);
    }

    /// @inheritdoc IAuthoritySet
    function rotationDelayS() public view override(AuthoritySet, IAuthoritySet) returns (uint64) {
        return 2 * windowS;
    }

    /// @inheritdoc ISettlement
    function contentHash(Settlement calldata settlement) external pure returns (bytes32) {
        return _contentHash(settlement);
    }

    /// @inheritdoc ISettlement
    function digest(Settlement calldata settlement) external view returns (bytes32) {
        return _digest(settlement);
    }

    /// @dev Whether the settlement is new. Its record is retained already where it was posted before, by whoever
    /// was faster: that must not revert what travels with it.
    function _post(
        Message memory message,
        uint256 signaturesAt,
        Signers memory signers
    ) private returns (bool) {
        Region storage region = _regions[uint32(message.region)];
        uint256 index = _indexOf(message.interval);
        bytes32 content = _contentOf(message);
        bytes26 commitment = _commitmentOf(message, content);
        bytes32 slot = region.ring[index % RING_SIZE];
        if (_committed(slot) == commitment && !_isDropped(region, slot)) return false;

        TipWord tipWord = region.tip;
        if (tipWord.isHeld()) _requireOpen(uint32(message.region), region);
        _requireContinuation(region, tipWord, message, index);
        if (_validAt(slot) > block.timestamp) revert RingFull(_validAt(slot));
        if (message.authoritySetEpoch != signers.epoch) revert WrongEpoch(uint32(signers.epoch));
        _requireActive(_typedDigest(_structHashOf(message)), signaturesAt, signers);

        uint256 validAt = block.timestamp + windowS;
        // Without a window nothing is ever pending, and nothing dropped.
        if (validAt <= tipWord.lastValidAt() && windowS > 0) validAt = tipWord.lastValidAt() + 1;
        region.tip = tipWord.continued(index, message.cumulativeCreditWh, message.cumulativeDebitWh, validAt);
        region.root = message.root;
        region.ring[index % RING_SIZE] = _ringSlot(validAt, commitment);
        _emitSettled(message, content);
        return true;
    }

    /// @dev prevInterval and prevRoot must both be the tip's: a night without credit repeats the root, so the
    /// root alone would let a stranger post i + 2 before i + 1.
    function _requireContinuation(
        Region storage region,
        TipWord tipWord,
        Message memory message,
        uint256 index
    ) private view {
        uint256 capWh = tipWord.capWh();
        if (capWh == 0) revert UnknownRegion(uint32(message.region));
        if (message.round != tipWord.round()) revert WrongRound(uint32(tipWord.round()));
        uint256 from = tipWord.index();
        // All are below 2^64: nothing wraps in 256 bits.
        unchecked {
            if (message.prevInterval != from * intervalLengthS || message.prevRoot != region.root) {
                revert WrongParent(uint64(from * intervalLengthS), region.root);
            }
            if (from == 0) from = _indexOf(region.startInterval);
            if (
                index <= from ||
                message.interval != index * intervalLengthS ||
                message.interval > block.timestamp
            ) {
                revert InvalidInterval(uint64(message.interval));
            }
            if (message.leafCount == 0) revert EmptyTree();
            if (message.cumulativeCreditWh != tipWord.creditWh() + message.intervalCreditWh) {
                revert InvalidTotals();
            }
            if (message.cumulativeDebitWh < tipWord.debitWh()) revert InvalidTotals();
            if (message.intervalCreditWh > capWh * (index - from)) {
                revert CapExceeded(capWh * (index - from));
            }
        }
    }

    /// @dev The mark that led here may be out of date; the post that is let through takes it away.
    function _requireOpen(uint32 number, Region storage region) private view {
        if (region.droppedAfter != 0) revert RegionStopped(number);
        if (block.timestamp < region.pausedUntil) revert RegionPaused(region.pausedUntil);
    }

    /// @dev The number of the interval; its length is never 0.
    function _indexOf(uint256 interval) private view returns (uint256 index) {
        uint256 length = intervalLengthS;
        assembly ("memory-safe") {
            index := div(interval, length)
        }
    }

    /// @dev A place in memory for one message after the other, behind the type hash that is hashed with it.
    function _messageBuffer() private pure returns (Message memory message) {
        bytes32 typehash = SETTLEMENT_TYPEHASH;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, typehash)
            message := add(words, 0x20)
            mstore(0x40, add(words, 0x1a0))
        }
    }

    /// @dev Settlement number `i`, which is one of those that calldata was checked for. Reverts, as reading it from
    /// calldata would, where a number does not fit its type: a round and an epoch are compared with such as do.
    function _load(Message memory message, Settlement[] calldata settlements, uint256 i) private pure {
        assembly ("memory-safe") {
            calldatacopy(message, add(settlements.offset, mul(i, 0x180)), 0x180)
            let numbers := or(mload(add(message, 0x40)), mload(add(message, 0x60)))
            numbers := or(numbers, or(mload(add(message, 0xc0)), mload(add(message, 0xe0))))
            numbers := shr(64, or(numbers, mload(add(message, 0x100))))
            if or(numbers, shr(32, or(mload(message), mload(add(message, 0x120))))) {
                revert(0, 0)
            }
        }
    }

    /// @dev keccak256 of the ABI encoding of all but the last field.
    function _contentOf(Message memory message) private pure returns (bytes32 content) {
        assembly ("memory-safe") {
            content := keccak256(message, 0x160)
        }
    }

    /// @dev The EIP-712 hash of a message in the buffer.
    function _structHashOf(Message memory message) private pure returns (bytes32 structHash) {
        assembly ("memory-safe") {
            structHash := keccak256(sub(message, 0x20), 0x1a0)
        }
    }

    /// @dev That of the message's record: root, interval, both totals and leafCount are words 5, 2, 7, 8 and 9.
    function _commitmentOf(
        Message memory message,
        bytes32 content
    ) private pure returns (bytes26 commitment) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, content)
            mstore(add(words, 0x20), mload(add(message, 0xa0)))
            mstore(add(words, 0x40), mload(add(message, 0x40)))
            mcopy(add(words, 0x60), add(message, 0xe0), 0x60)
            commitment := shl(48, shr(48, keccak256(words, 0xc0)))
        }
    }

    function _emitSettled(Message memory message, bytes32 content) private {
        uint256 numbers =
            (message.round << 224) |
                (message.leafCount << 192) |
                (message.intervalCreditWh << 128) |
                (message.cumulativeCreditWh << 64) |
                message.cumulativeDebitWh;
        emit Settled(
            uint32(message.region),
            uint64(message.interval),
            message.root,
            content,
            message.dataHash,
            bytes32(numbers)
        );
    }

    function _contentHash(Settlement memory settlement) internal pure returns (bytes32 content) {
        assembly ("memory-safe") {
            content := keccak256(settlement, 0x160)
        }
    }

    function _digest(Settlement memory settlement) internal view returns (bytes32) {
        return _typedDigest(keccak256(abi.encode(SETTLEMENT_TYPEHASH, settlement)));
    }

    function _commitmentOf(Settlement memory settlement) internal pure returns (bytes26) {
        return
            bytes26(
                keccak256(
                    abi.encode(
                        _contentHash(settlement),
                        settlement.root,
                        settlement.interval,
                        settlement.cumulativeCreditWh,
                        settlement.cumulativeDebitWh,
                        settlement.leafCount
                    )
                )
            );
    }
}
