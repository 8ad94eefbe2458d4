// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Eip712Domain} from "./Eip712Domain.sol";
import {ICreditToken} from "./ICreditToken.sol";

/// @title The credit token over the ledger's accounts
/// @dev Owns `_accounts` and `allowance`. A balance shares one storage slot with what the account was minted in its
/// home region, so that a claim writes one slot per account.
abstract contract CreditToken is ICreditToken, Eip712Domain {
    /// @dev 192 of 256 bits. Balances fit: 256 regions mint at most 2^64 Wh each.
    struct Account {
        uint96 balanceWh;
        uint32 homeRegion;
        uint64 homeMintedWh;
    }

    /// @inheritdoc ICreditToken
    string public constant name = "Gridroot Credit";
    /// @inheritdoc ICreditToken
    string public constant symbol = "GRC";
    /// @inheritdoc ICreditToken
    uint8 public constant decimals = 0;

    mapping(address account => Account) internal _accounts;
    /// @inheritdoc ICreditToken
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    /// @inheritdoc ICreditToken
    function balanceOf(address account) external view returns (uint256) {
        return _accounts[account].balanceWh;
    }

    /// @inheritdoc ICreditToken
    function transfer(address to, uint256 value) external returns (bool) {
        _transfer(msg.sender, to, value);
        return true;
    }

    /// @inheritdoc ICreditToken
    function approve(address spender, uint256 value) external returns (bool) {
        if (spender == address(0)) revert ERC20InvalidSpender(spender);
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    /// @inheritdoc ICreditToken
    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) {
            if (allowed < value) revert ERC20InsufficientAllowance(msg.sender, allowed, value);
            allowance[from][msg.sender] = allowed - value;
        }
        _transfer(from, to, value);
        return true;
    }

    /// @dev Nobody can spend for the zero address: it signs nothing and is never minted to.
    function _transfer(address from, address to, uint256 value) private {
        if (to == address(0)) revert ERC20InvalidReceiver(to);
        uint256 balance = _accounts[from].balanceWh;
        if (balance < value) revert ERC20InsufficientBalance(from, balance, value);
        // The value is at most a balance, and all balances together fit into 96 bits.
        _accounts[from].balanceWh = uint96(balance - value);
        _accounts[to].balanceWh += uint96(value);
        emit Transfer(from, to, value);
    }
}
