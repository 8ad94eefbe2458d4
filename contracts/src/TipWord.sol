// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @dev What a post reads and writes of a region beside the root, in one slot, from the lowest bit:
/// the tip's interval in lengths of an interval (32), its cumulative credit (64) and debit (64), the latest validAt that
/// was handed out, even where its record was dropped (40), the round (16), the cap in Wh (39), and whether the region
/// may be held up by a pause or a veto (1). A cap of 0 marks a region that is not registered.
type TipWord is uint256;

using {
    TipWords.index,
    TipWords.creditWh,
    TipWords.debitWh,
    TipWords.lastValidAt,
    TipWords.round,
    TipWords.capWh,
    TipWords.isHeld,
    TipWords.continued,
    TipWords.withCap,
    TipWords.nextRound,
    TipWords.held
} for TipWord global;

library TipWords {
    uint256 internal constant MAX_CAP_WH = (1 << 39) - 1;
    uint256 private constant HELD = 1 << 255;
    uint256 private constant CAP_AT = 216;
    uint256 private constant ROUND_AT = 200;
    uint256 private constant VALID_AT = 160;
    uint256 private constant DEBIT_AT = 96;
    uint256 private constant CREDIT_AT = 32;

    function index(TipWord word) internal pure returns (uint256) {
        return uint32(TipWord.unwrap(word));
    }

    function creditWh(TipWord word) internal pure returns (uint256) {
        return uint64(TipWord.unwrap(word) >> CREDIT_AT);
    }

    function debitWh(TipWord word) internal pure returns (uint256) {
        return uint64(TipWord.unwrap(word) >> DEBIT_AT);
    }

    function lastValidAt(TipWord word) internal pure returns (uint256) {
        return uint40(TipWord.unwrap(word) >> VALID_AT);
    }

    function round(TipWord word) internal pure returns (uint256) {
        return uint16(TipWord.unwrap(word) >> ROUND_AT);
    }

    function capWh(TipWord word) internal pure returns (uint256) {
        return (TipWord.unwrap(word) >> CAP_AT) & MAX_CAP_WH;
    }

    function isHeld(TipWord word) internal pure returns (bool) {
        return TipWord.unwrap(word) & HELD != 0;
    }

    /// @dev The same round and cap, not held, with another tip. Every value must fit its place.
    function continued(
        TipWord word,
        uint256 index_,
        uint256 creditWh_,
        uint256 debitWh_,
        uint256 validAt
    ) internal pure returns (TipWord) {
        uint256 terms = TipWord.unwrap(word) & (((1 << 55) - 1) << ROUND_AT);
        uint256 tip = index_ | (creditWh_ << CREDIT_AT) | (debitWh_ << DEBIT_AT) | (validAt << VALID_AT);
        return TipWord.wrap(terms | tip);
    }

    /// @dev The next round, held. Reverts after the last one.
    function nextRound(TipWord word) internal pure returns (TipWord) {
        uint16 next = uint16(round(word)) + 1;
        uint256 others = TipWord.unwrap(word) & ~(uint256(type(uint16).max) << ROUND_AT);
        return TipWord.wrap(others | (uint256(next) << ROUND_AT) | HELD);
    }

    function withCap(TipWord word, uint256 capWh_) internal pure returns (TipWord) {
        return TipWord.wrap((TipWord.unwrap(word) & ~(MAX_CAP_WH << CAP_AT)) | (capWh_ << CAP_AT));
    }

    function held(TipWord word) internal pure returns (TipWord) {
        return TipWord.wrap(TipWord.unwrap(word) | HELD);
    }
}
