// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Gridroot Credit: an ERC-20 whose unit is 1 Wh
/// @notice It is minted by claims only. Errors are those of ERC-6093.
interface ICreditToken {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    /// @notice The sender has less than it would spend.
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    /// @notice Nothing is sent to the zero address.
    error ERC20InvalidReceiver(address receiver);
    /// @notice The zero address is allowed nothing.
    error ERC20InvalidSpender(address spender);
    /// @notice The spender is allowed less than it would spend.
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);

    function name() external view returns (string memory);

    function symbol() external view returns (string memory);

    /// @notice 0: one token is one Wh; there is no fraction of it.
    function decimals() external view returns (uint8);

    /// @notice All Wh minted so far.
    function totalSupply() external view returns (uint256);

    /// @notice In Wh.
    function balanceOf(address account) external view returns (uint256);

    /// @notice What `spender` may still transfer for `owner`; the largest number never shrinks.
    function allowance(address owner, address spender) external view returns (uint256);

    /// @notice Reverts rather than returning false.
    function transfer(address to, uint256 value) external returns (bool);

    /// @notice Replaces what was allowed before.
    function approve(address spender, uint256 value) external returns (bool);

    /// @notice Reverts rather than returning false.
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}
