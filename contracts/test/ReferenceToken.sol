// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @notice OpenZeppelin's token with permit, whose storage is plain: what the credit is compared with.
contract ReferenceToken is ERC20Permit {
    constructor() ERC20("Gridroot Credit", "GRC") ERC20Permit("Gridroot Settlement") {}

    function decimals() public pure override returns (uint8) {
        return 0;
    }

    function mint(address account, uint256 amountWh) external {
        _mint(account, amountWh);
    }

    function retire(uint256 amountWh, string calldata) external {
        _burn(msg.sender, amountWh);
    }
}
