// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {CreditToken} from "./CreditToken.sol";
import {IClaims} from "./IClaims.sol";
import {ICreditToken} from "./ICreditToken.sol";
import {MerkleSumProof} from "./MerkleSumProof.sol";
import {Records} from "./Records.sol";

/// @title Claims
/// @dev Owns `_mintedElsewhereWh`; writes the token's accounts, and of a region `mintedWh` and `claimedTotalWh`.
abstract contract Claims is Records, CreditToken {
    /// @dev What accounts were minted outside their home region.
    mapping(address account => mapping(uint32 region => uint64)) private _mintedElsewhereWh;

    /// @inheritdoc IClaims
    function claim(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external {
        Region storage stored = _claimable(region, record);
        if (!MerkleSumProof.holds(record, leaf, proof)) revert InvalidProof();
        uint256 amountWh = _mint(region, leaf);
        if (amountWh > 0) _countMinted(stored, region, record, amountWh);
    }

    /// @inheritdoc IClaims
    function claimBatch(
        uint32 region,
        Record calldata record,
        Leaf[] calldata leaves,
        Node[] calldata proof
    ) external {
        Region storage stored = _claimable(region, record);
        if (!MerkleSumProof.holdsForAll(record, leaves, proof)) revert InvalidProof();
        uint256 amountWh = 0;
        unchecked {
            // The proof's leaves add up to at most 2^64 - 1 Wh, and each is minted at most its own.
            for (uint256 i = 0; i < leaves.length; i++) amountWh += _mint(region, leaves[i]);
        }
        if (amountWh > 0) _countMinted(stored, region, record, amountWh);
    }

    /// @inheritdoc IClaims
    function verify(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external view returns (bool) {
        return _isRetained(region, record) && MerkleSumProof.holds(record, leaf, proof);
    }

    /// @inheritdoc IClaims
    function mintedWh(uint32 region, address account) external view returns (uint64) {
        uint256 word = _accounts[account];
        bool atHome = uint32(word >> HOME_REGION_BIT) == region;
        return atHome ? uint64(word >> HOME_MINTED_BIT) : _mintedElsewhereWh[account][region];
    }

    /// @inheritdoc ICreditToken
    /// @dev The sum over at most 256 regions; a running total would cost every claim a slot.
    function totalSupply() external view returns (uint256 supplyWh) {
        for (uint256 i = 0; i < _regionNumbers.length; i++) supplyWh += _regions[_regionNumbers[i]].mintedWh;
        return supplyWh - totalRetiredWh;
    }

    /// @dev Returns what was minted: 0 if everything was before, which never reverts, so that a claim made by
    /// somebody else first cannot spoil a batch. Sums and differences of 64-bit numbers cannot wrap in 256 bits.
    function _mint(uint32 region, Leaf calldata leaf) private returns (uint256 amountWh) {
        address account = leaf.account;
        if (account == address(0)) revert ZeroAccount();
        uint256 word = _accounts[account];
        uint256 home = uint32(word >> HOME_REGION_BIT);
        bool atHome = home == region || home == 0;
        uint256 beforeWh = atHome ? word >> HOME_MINTED_BIT : _mintedElsewhereWh[account][region];
        unchecked {
            uint256 spentWh = beforeWh + leaf.debitWh;
            uint256 creditWh = leaf.creditWh;
            if (creditWh <= spentWh) return 0;
            amountWh = creditWh - spentWh;
            uint256 nowWh = beforeWh + amountWh;
            if (atHome) {
                word = uint96(word) | (uint256(region) << HOME_REGION_BIT) | (nowWh << HOME_MINTED_BIT);
            } else {
                _mintedElsewhereWh[account][region] = uint64(nowWh);
            }
            _accounts[account] = word + amountWh;
            emit Transfer(address(0), account, amountWh);
        }
    }

    /// @dev The record's total bounds what may be minted. Where claims from later records were made before, theirs
    /// does, or else those claims would block this one. All of them were mature: a pending total bounds nothing.
    function _countMinted(
        Region storage stored,
        uint32 region,
        Record calldata record,
        uint256 amountWh
    ) private {
        uint256 boundWh = stored.claimedTotalWh;
        if (record.cumulativeCreditWh > boundWh) boundWh = record.cumulativeCreditWh;
        uint256 minted = stored.mintedWh + amountWh;
        if (minted > boundWh) revert MintedAboveTotal();
        stored.mintedWh = uint64(minted);
        stored.claimedTotalWh = uint64(boundWh);
        emit Claimed(region, record.interval, uint64(amountWh));
    }
}
