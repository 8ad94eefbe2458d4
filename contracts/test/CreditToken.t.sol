// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice The credit as an ERC-20.
contract CreditTokenTest is SettlementTest {
    using SumTree for SumTree.Tree;

    address internal constant HOLDER = address(0x1001);
    address internal constant RECEIVER = address(0x2001);
    address internal constant SPENDER = address(0x3001);
    uint256 internal constant MINTED_WH = 1000;

    function setUp() public override {
        super.setUp();
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(uint64(MINTED_WH), 0, 0));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ledger.claim(REGION, record, leaves[0], SumTree.build(leaves).proof(0));
    }

    function test_OneTokenIsOneWattHour() public view {
        vm.assertEq(ledger.name(), "Gridroot Credit");
        vm.assertEq(ledger.symbol(), "GRC");
        vm.assertEq(ledger.decimals(), 0);
    }

    function testFuzz_ATransferMovesItsValue(uint256 value) public {
        value %= MINTED_WH + 1;
        vm.expectEmit(true, true, true, true, address(ledger));
        emit ICreditToken.Transfer(HOLDER, RECEIVER, value);
        vm.prank(HOLDER);
        vm.assertTrue(ledger.transfer(RECEIVER, value));
        vm.assertEq(ledger.balanceOf(HOLDER), MINTED_WH - value);
        vm.assertEq(ledger.balanceOf(RECEIVER), value);
        vm.assertEq(ledger.mintedWh(REGION, HOLDER), MINTED_WH);
        vm.assertEq(ledger.totalSupply(), MINTED_WH);
    }

    function testFuzz_NobodySpendsMoreThanTheyHave(uint256 value) public {
        vm.assume(value > MINTED_WH);
        vm.prank(HOLDER);
        vm.expectRevert(
            abi.encodeWithSelector(ICreditToken.ERC20InsufficientBalance.selector, HOLDER, MINTED_WH, value)
        );
        ledger.transfer(RECEIVER, value);
    }

    function test_ATransferToOneselfChangesNothing() public {
        vm.prank(HOLDER);
        ledger.transfer(HOLDER, 400);
        vm.assertEq(ledger.balanceOf(HOLDER), MINTED_WH);
    }

    function test_TheZeroAddressReceivesAndSpendsNothing() public {
        vm.prank(HOLDER);
        vm.expectRevert(abi.encodeWithSelector(ICreditToken.ERC20InvalidReceiver.selector, address(0)));
        ledger.transfer(address(0), 1);
        vm.expectRevert(abi.encodeWithSelector(ICreditToken.ERC20InvalidSpender.selector, address(0)));
        ledger.approve(address(0), 1);
    }

    function testFuzz_AnAllowanceIsUsedUp(uint256 allowed, uint256 value) public {
        allowed %= type(uint256).max;
        value %= MINTED_WH + 1;
        vm.prank(HOLDER);
        vm.assertTrue(ledger.approve(SPENDER, allowed));
        bytes memory refusal = abi.encodeWithSelector(
            ICreditToken.ERC20InsufficientAllowance.selector,
            SPENDER,
            allowed,
            value
        );
        vm.prank(SPENDER);
        if (value > allowed) vm.expectRevert(refusal);
        ledger.transferFrom(HOLDER, RECEIVER, value);
        vm.assertEq(ledger.allowance(HOLDER, SPENDER), value > allowed ? allowed : allowed - value);
        vm.assertEq(ledger.balanceOf(RECEIVER), value > allowed ? 0 : value);
    }

    function test_AnUnlimitedAllowanceStays() public {
        vm.prank(HOLDER);
        ledger.approve(SPENDER, type(uint256).max);
        vm.prank(SPENDER);
        ledger.transferFrom(HOLDER, RECEIVER, 10);
        vm.assertEq(ledger.allowance(HOLDER, SPENDER), type(uint256).max);
    }

    function test_ATransferDoesNotAllowAnotherMint() public {
        vm.prank(HOLDER);
        ledger.transfer(RECEIVER, MINTED_WH);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(uint64(MINTED_WH), 0, 0));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ledger.claim(REGION, record, leaves[0], SumTree.build(leaves).proof(0));
        vm.assertEq(ledger.balanceOf(HOLDER), 0);
    }

    function testFuzz_RetiredCreditIsGone(uint256 amountWh) public {
        amountWh %= MINTED_WH + 1;
        vm.expectEmit(true, true, true, true, address(ledger));
        emit ICreditToken.Transfer(HOLDER, address(0), amountWh);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit ICreditToken.Retired(HOLDER, amountWh, "heating in January");
        vm.prank(HOLDER);
        ledger.retire(amountWh, "heating in January");
        vm.assertEq(ledger.balanceOf(HOLDER), MINTED_WH - amountWh);
        vm.assertEq(ledger.totalRetiredWh(), amountWh);
        vm.assertEq(ledger.totalSupply(), MINTED_WH - amountWh);
        vm.assertEq(ledger.mintedWh(REGION, HOLDER), MINTED_WH);
        vm.assertEq(ledger.regionInfo(REGION).mintedWh, MINTED_WH);
    }

    function test_RetiredCreditIsNotMintedAgain() public {
        vm.prank(HOLDER);
        ledger.retire(MINTED_WH, "");
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(uint64(MINTED_WH), 0, 0));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ledger.claim(REGION, record, leaves[0], SumTree.build(leaves).proof(0));
        vm.assertEq(ledger.balanceOf(HOLDER), 0);
        vm.assertEq(ledger.totalSupply(), 0);
    }

    function test_NobodyRetiresMoreThanTheyHave() public {
        vm.prank(HOLDER);
        vm.expectRevert(
            abi.encodeWithSelector(
                ICreditToken.ERC20InsufficientBalance.selector,
                HOLDER,
                MINTED_WH,
                MINTED_WH + 1
            )
        );
        ledger.retire(MINTED_WH + 1, "");
    }

    /// @dev A malformed signature recovers the zero address, which must not pass for an owner of that address.
    function test_NobodySignsForTheZeroAddress() public {
        vm.expectRevert(
            abi.encodeWithSelector(ICreditToken.ERC2612InvalidSigner.selector, address(0), address(0))
        );
        ledger.permit(address(0), SPENDER, 1, block.timestamp, 29, bytes32(uint256(1)), bytes32(uint256(1)));
        vm.assertEq(ledger.nonces(address(0)), 0);
    }

    function test_TheDomainIsThatOfSettlements() public view {
        (
            bytes1 fields,
            string memory domainName,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        ) = ledger.eip712Domain();
        vm.assertTrue(fields == 0x0f);
        bytes32 separator = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256(bytes(domainName)),
                keccak256(bytes(version)),
                chainId,
                verifyingContract
            )
        );
        vm.assertEq(ledger.DOMAIN_SEPARATOR(), separator);
        vm.assertEq(domainName, "Gridroot Settlement");
        vm.assertEq(verifyingContract, address(ledger));
        vm.assertEq(salt, bytes32(0));
        vm.assertEq(extensions.length, 0);
    }

    /// @dev A fork of the chain does not take permits over.
    function test_TheDomainFollowsTheChainId() public {
        bytes32 here = ledger.DOMAIN_SEPARATOR();
        vm.chainId(block.chainid + 1);
        vm.assertFalse(ledger.DOMAIN_SEPARATOR() == here);
    }
}
