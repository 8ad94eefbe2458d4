// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Eip712Domain} from "./Eip712Domain.sol";
import {ICreditToken} from "./ICreditToken.sol";

/// @title The credit token over the ledger's accounts
/// @dev Owns `_accounts`, `allowance`, `nonces` and `totalRetiredWh`. A balance shares one storage slot with what the
/// account was minted in its home region, so that a claim writes one slot per account.
///
/// An account's word, from the lowest bit: `balanceWh u96 | homeRegion u32 | homeMintedWh u64`, 192 of 256 bits. All
/// balances together fit into 96 bits, as 256 regions mint at most 2^64 Wh each; so adding a value that was taken
/// from a balance never carries into the home region, and the word is used as a number.
abstract contract CreditToken is ICreditToken, Eip712Domain {
    bytes32 private constant PERMIT_TYPEHASH = keccak256(
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    );
    /// @dev Half the order of secp256k1: of the two values of s that verify only the lower one counts.
    uint256 private constant MAX_LOW_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    uint256 internal constant HOME_REGION_BIT = 96;
    uint256 internal constant HOME_MINTED_BIT = 128;

    // ERC-20 names them.
    // solhint-disable const-name-snakecase
    /// @inheritdoc ICreditToken
    string public constant name = "Gridroot Credit";
    /// @inheritdoc ICreditToken
    string public constant symbol = "GRC";
    /// @inheritdoc ICreditToken
    uint8 public constant decimals = 0;
    // solhint-enable const-name-snakecase

    mapping(address account => uint256 word) internal _accounts;
    /// @inheritdoc ICreditToken
    mapping(address owner => mapping(address spender => uint256)) public allowance;
    /// @inheritdoc ICreditToken
    mapping(address owner => uint256) public nonces;
    /// @inheritdoc ICreditToken
    uint256 public totalRetiredWh;

    /// @inheritdoc ICreditToken
    function balanceOf(address account) external view returns (uint256) {
        return uint96(_accounts[account]);
    }

    /// @inheritdoc ICreditToken
    function transfer(address to, uint256 value) external returns (bool) {
        _transfer(msg.sender, to, value);
        return true;
    }

    /// @inheritdoc ICreditToken
    function approve(address spender, uint256 value) external returns (bool) {
        _approve(msg.sender, spender, value);
        return true;
    }

    /// @inheritdoc ICreditToken
    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) {
            if (allowed < value) revert ERC20InsufficientAllowance(msg.sender, allowed, value);
            // It allows nobody anything, so that only a value of 0 comes so far.
            if (from == address(0)) revert ERC20InvalidApprover(from);
            allowance[from][msg.sender] = allowed - value;
        }
        _transfer(from, to, value);
        return true;
    }

    /// @inheritdoc ICreditToken
    function retire(uint256 amountWh, string calldata reason) external {
        _spend(msg.sender, amountWh);
        totalRetiredWh += amountWh;
        emit Transfer(msg.sender, address(0), amountWh);
        emit Retired(msg.sender, amountWh, reason);
    }

    /// @inheritdoc ICreditToken
    function permit(
        address owner,
        address spender,
        uint256 value,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        if (block.timestamp > deadline) revert ERC2612ExpiredSignature(deadline);
        bytes32 message = keccak256(
            abi.encode(PERMIT_TYPEHASH, owner, spender, value, nonces[owner]++, deadline)
        );
        address signer = uint256(s) > MAX_LOW_S ? address(0) : ecrecover(_typedDigest(message), v, r, s);
        // A failed recovery gives the zero address, for which nobody signs.
        if (signer == address(0) || signer != owner) revert ERC2612InvalidSigner(signer, owner);
        _approve(owner, spender, value);
    }

    /// @inheritdoc ICreditToken
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparator();
    }

    /// @inheritdoc ICreditToken
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        // The bits of name, version, chain id and verifying contract.
        return (0x0f, "Gridroot Settlement", "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function _approve(address owner, address spender, uint256 value) private {
        if (spender == address(0)) revert ERC20InvalidSpender(spender);
        allowance[owner][spender] = value;
        emit Approval(owner, spender, value);
    }

    function _transfer(address from, address to, uint256 value) private {
        if (to == address(0)) revert ERC20InvalidReceiver(to);
        _spend(from, value);
        unchecked {
            _accounts[to] += value;
        }
        emit Transfer(from, to, value);
    }

    /// @dev Takes the value from the word's lowest field, which holds at least that much.
    function _spend(address from, uint256 value) private {
        uint256 word = _accounts[from];
        uint256 balance = uint96(word);
        if (balance < value) revert ERC20InsufficientBalance(from, balance, value);
        unchecked {
            _accounts[from] = word - value;
        }
    }
}
