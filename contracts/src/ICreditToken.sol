// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Gridroot Credit: an ERC-20 with permit (ERC-2612) whose unit is 1 Wh
/// @notice It is minted by claims only, and used up by being retired. Errors are those of ERC-6093 and, for permits,
/// those that OpenZeppelin made common.
interface ICreditToken {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    /// @notice `account` used up `amountWh` of its credit: the energy is claimed for `reason`, and by nobody again.
    event Retired(address indexed account, uint256 amountWh, string reason);

    /// @notice The sender has less than it would spend.
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    /// @notice Nothing is sent to the zero address.
    error ERC20InvalidReceiver(address receiver);
    /// @notice The zero address allows nothing.
    error ERC20InvalidApprover(address approver);
    /// @notice The zero address is allowed nothing.
    error ERC20InvalidSpender(address spender);
    /// @notice The spender is allowed less than it would spend.
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    /// @notice The permit's deadline has passed.
    error ERC2612ExpiredSignature(uint256 deadline);
    /// @notice The permit was signed by `signer`, or, where that is zero, by a signature that is malleable or
    /// nobody's.
    error ERC2612InvalidSigner(address signer, address owner);

    function name() external view returns (string memory);

    function symbol() external view returns (string memory);

    /// @notice 0: one token is one Wh; there is no fraction of it.
    function decimals() external view returns (uint8);

    /// @notice All Wh minted so far and not retired: what all accounts hold together.
    function totalSupply() external view returns (uint256);

    /// @notice All Wh retired so far.
    function totalRetiredWh() external view returns (uint256);

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

    /// @notice Uses up the caller's own credit for good. It is seen as a transfer to the zero address and in
    /// `Retired`; what was minted stays minted, so that retired credit is never minted again.
    /// @param reason Free text for whoever reads the log, such as the period and the consumption it stands for.
    function retire(uint256 amountWh, string calldata reason) external;

    /// @notice Approves by the owner's signature (EIP-712, `Permit(address owner,address spender,uint256
    /// value,uint256 nonce,uint256 deadline)` in the domain of `eip712Domain`); anyone may send it.
    /// @param deadline The last instant at which it counts, unix seconds.
    /// @param s In the lower half of the curve's order.
    function permit(
        address owner,
        address spender,
        uint256 value,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice How many permits of the owner were used: the nonce of the next one.
    function nonces(address owner) external view returns (uint256);

    /// @notice The hash of the EIP-712 domain that permits are signed for.
    // solhint-disable-next-line func-name-mixedcase
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    /// @notice The EIP-712 domain of all messages to this contract, in the form of ERC-5267.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory domainName,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}
