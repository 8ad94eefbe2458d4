// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice The contract's half of the agreement on roots. `contracts/settlement.test.ts` computes the same digest over
/// the same trees in TypeScript.
contract AgreementTest is SettlementTest {
    using SumTree for SumTree.Tree;

    uint32 internal constant WIDE_REGION = 9;
    /// @dev Chained over the roots: digest = keccak256(digest | root), from 0.
    bytes32 internal constant ROOTS_DIGEST =
        0x23a80d1d64c845cc060f48babdd9daf8ee8462ec6f3d4d457ba8551c26b2f3d8;

    bytes32 internal digest;

    function test_RootsAreThoseOfTypeScript() public {
        ledger.registerRegion(WIDE_REGION, "wide", 1 << 38, START);
        for (uint64 count = 1; count <= 257; count++) addRoot(count);
        uint64[6] memory aroundPowers = [uint64(511), 512, 513, 1023, 1024, 1025];
        for (uint256 i = 0; i < aroundPowers.length; i++) addRoot(aroundPowers[i]);
        vm.assertEq(digest, ROOTS_DIGEST);
    }

    /// @dev The contract computes the whole tree: all leaves are given, and no node. Debits equal credits, so that
    /// nothing is minted.
    function addRoot(uint64 count) private {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(new uint64[](count));
        for (uint64 i = 0; i < count; i++) leaves[i].creditWh = leaves[i].debitWh = count * 1000 + i;
        ISettlementTypes.Record memory record = postLeaves(WIDE_REGION, 1, leaves);
        ledger.claimBatch(WIDE_REGION, record, leaves, new ISettlementTypes.Node[](0));
        digest = keccak256(abi.encodePacked(digest, record.root));
    }
}
