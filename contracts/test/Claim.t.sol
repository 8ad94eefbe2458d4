// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IClaims} from "../src/IClaims.sol";
import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice Which proofs are accepted, and what they mint.
contract ClaimTest is SettlementTest {
    using SumTree for SumTree.Tree;

    function testFuzz_EveryLeafOfATreeOfAnySizeIsProvenAndMintedOnce(uint256 seed, uint256 count) public {
        count = 1 + (count % 24);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, count));
        SumTree.Tree memory tree = SumTree.build(leaves);
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        for (uint256 i = 0; i < count; i++) {
            vm.assertTrue(ledger.verify(REGION, record, leaves[i], tree.proof(i)));
            for (uint256 repetition = 0; repetition < 2; repetition++) {
                ledger.claim(REGION, record, leaves[i], tree.proof(i));
                vm.assertEq(ledger.balanceOf(leaves[i].account), leaves[i].creditWh);
            }
        }
        vm.assertEq(ledger.totalSupply(), record.cumulativeCreditWh);
        vm.assertEq(ledger.regionInfo(REGION).mintedWh, record.cumulativeCreditWh);
    }

    function testFuzz_AnySubsetIsProvenByOneMultiproof(uint256 seed, uint256 count, uint256 chosen) public {
        count = 1 + (count % 24);
        chosen = chosen % (1 << count) == 0 ? 1 : chosen % (1 << count);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, count));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        (ISettlementTypes.Leaf[] memory subset, ISettlementTypes.Node[] memory proof) = subsetOf(
            leaves,
            chosen
        );
        ledger.claimBatch(REGION, record, subset, proof);
        for (uint256 i = 0; i < count; i++) {
            uint256 expectedWh = (chosen >> i) & 1 == 1 ? leaves[i].creditWh : 0;
            vm.assertEq(ledger.balanceOf(leaves[i].account), expectedWh);
        }
    }

    function testFuzz_AFlippedBitAnywhereInAClaimIsRefused(uint256 seed, uint256 bit) public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, 11));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(seed % 11);
        bytes memory arguments = abi.encode(REGION, record, leaves[seed % 11], proof);
        bit %= arguments.length * 8;
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (bool accepted, ) = address(ledger).call(bytes.concat(IClaims.claim.selector, arguments));
        vm.assertFalse(accepted, "the altered claim");
        vm.assertEq(ledger.totalSupply(), 0);
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (accepted, ) = address(ledger).call(bytes.concat(IClaims.claim.selector, arguments));
        vm.assertTrue(accepted, "the honest claim");
    }

    function testFuzz_AFlippedBitAnywhereInABatchClaimIsRefused(uint256 seed, uint256 bit) public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, 9));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        (ISettlementTypes.Leaf[] memory subset, ISettlementTypes.Node[] memory proof) = subsetOf(
            leaves,
            1 + (seed % 511)
        );
        bytes memory arguments = abi.encode(REGION, record, subset, proof);
        bit %= arguments.length * 8;
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (bool accepted, ) = address(ledger).call(bytes.concat(IClaims.claimBatch.selector, arguments));
        vm.assertFalse(accepted, "the altered claim");
        vm.assertEq(ledger.totalSupply(), 0);
        arguments[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        (accepted, ) = address(ledger).call(bytes.concat(IClaims.claimBatch.selector, arguments));
        vm.assertTrue(accepted, "the honest claim");
    }

    function testFuzz_AProofOfAnotherLengthIsRefused(uint256 count, uint256 index) public {
        count = 2 + (count % 23);
        index %= count;
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(count, count));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(index);
        ISettlementTypes.Node[] memory longer = new ISettlementTypes.Node[](proof.length + 1);
        ISettlementTypes.Node[] memory shorter = new ISettlementTypes.Node[](proof.length - 1);
        for (uint256 i = 0; i < proof.length; i++) {
            longer[i] = proof[i];
            if (i < shorter.length) shorter[i] = proof[i];
        }
        vm.assertFalse(ledger.verify(REGION, record, leaves[index], longer));
        vm.assertFalse(ledger.verify(REGION, record, leaves[index], shorter));
        ISettlementTypes.Leaf[] memory one = new ISettlementTypes.Leaf[](1);
        one[0] = leaves[index];
        refuseBatch(record, one, longer);
        refuseBatch(record, one, shorter);
    }

    function test_AnEmptyBatchIsRefused() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory rootOnly = new ISettlementTypes.Node[](1);
        rootOnly[0] = SumTree.build(leaves).root();
        refuseBatch(record, new ISettlementTypes.Leaf[](0), rootOnly);
        refuseBatch(record, new ISettlementTypes.Leaf[](0), new ISettlementTypes.Node[](0));
    }

    function test_ALeafTwiceOrOutOfOrderIsRefused() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(2);
        ISettlementTypes.Leaf[] memory pair = new ISettlementTypes.Leaf[](2);
        (pair[0], pair[1]) = (leaves[1], leaves[0]);
        refuseBatch(record, pair, proof);
        (pair[0], pair[1]) = (leaves[0], leaves[0]);
        refuseBatch(record, pair, proof);
        (pair[0], pair[1]) = (leaves[0], leaves[1]);
        proof = new ISettlementTypes.Node[](1);
        proof[0] = SumTree.build(leaves).levels[0][2];
        ledger.claimBatch(REGION, record, pair, proof);
    }

    /// @dev A verifier that takes an index twice climbs two paths to the top, and looks at one of them only.
    function test_AForgedLeafBesideAnHonestOneIsRefused() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory honest = SumTree.build(leaves).proof(0);
        ISettlementTypes.Leaf[] memory pair = new ISettlementTypes.Leaf[](2);
        (pair[0], pair[1]) = (leaves[0], ISettlementTypes.Leaf(0, address(0xbad), 2, 0));
        ISettlementTypes.Node[] memory twice = new ISettlementTypes.Node[](2 * honest.length);
        for (uint256 i = 0; i < twice.length; i++) twice[i] = honest[i / 2];
        refuseBatch(record, pair, twice);
    }

    function test_ALeafBeyondTheTreeIsRefused() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(2);
        leaves[2].index = 3;
        vm.assertFalse(ledger.verify(REGION, record, leaves[2], proof));
        ISettlementTypes.Leaf[] memory one = new ISettlementTypes.Leaf[](1);
        one[0] = leaves[2];
        refuseBatch(record, one, proof);
    }

    /// @dev The authorities sign a root over leaves that add up to more than the total they sign.
    function test_LeavesThatDoNotAddUpToTheSignedTotalCannotBeClaimed() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Settlement memory settlement = settlementOf(REGION, 1, leaves);
        settlement.cumulativeCreditWh = 5;
        settlement.intervalCreditWh = 5;
        post(settlement, signaturesOf(settlement, THRESHOLD));
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(0);
        ISettlementTypes.Record memory record = recordOf(settlement);
        vm.expectRevert(IClaims.InvalidProof.selector);
        ledger.claim(REGION, record, leaves[0], proof);
    }

    function test_SumsBeyond64BitsAreRefused() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(1, 2, 3));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(0);
        proof[0].sumWh = type(uint64).max;
        vm.assertFalse(ledger.verify(REGION, record, leaves[0], proof));
    }

    function testFuzz_OnlyTheRiseOfCreditLessDebitIsMinted(uint64 first, uint64 rise, uint64 debit) public {
        first = first % CAP_WH;
        rise = rise % CAP_WH;
        debit = debit % (2 * CAP_WH);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(first, 0, 0));
        claimFirst(postLeaves(REGION, 1, leaves), leaves);
        leaves[0].creditWh = first + rise;
        leaves[0].debitWh = debit;
        claimFirst(postLeaves(REGION, 1, leaves), leaves);
        uint256 netWh = first + rise > debit ? first + rise - debit : 0;
        vm.assertEq(ledger.balanceOf(leaves[0].account), netWh > first ? netWh : first);
    }

    function test_AClaimThatMintsNothingNeitherRevertsNorEmits() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        claimFirst(record, leaves);
        vm.recordLogs();
        claimFirst(record, leaves);
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    function test_ABatchIsNotSpoiledByAClaimBeforeIt() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        claimFirst(record, leaves);
        ledger.claimBatch(REGION, record, leaves, new ISettlementTypes.Node[](0));
        vm.assertEq(ledger.totalSupply(), 18);
    }

    /// @dev Others claimed from a later record, so that more is minted than this record's total.
    function test_AnOlderRecordStaysGoodAfterClaimsFromALaterOne() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Leaf[] memory later = leavesOf(list(5, 600, 700));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Record memory laterRecord = postLeaves(REGION, 1, later);
        (ISettlementTypes.Leaf[] memory subset, ISettlementTypes.Node[] memory proof) = subsetOf(later, 6);
        ledger.claimBatch(REGION, laterRecord, subset, proof);
        claimFirst(record, leaves);
        vm.assertEq(ledger.balanceOf(leaves[0].account), 5);
    }

    /// @dev Two roots whose sums are right, but whose accounts' credits fell: only dishonest authorities sign that.
    function test_NeverIsMoreMintedThanWasAttested() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(100, 0, 0));
        claimFirst(postLeaves(REGION, 1, leaves), leaves);
        ISettlementTypes.Leaf[] memory moved = leavesOf(list(0, 100, 0));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, moved);
        ISettlementTypes.Node[] memory proof = SumTree.build(moved).proof(1);
        vm.expectRevert(IClaims.MintedAboveTotal.selector);
        ledger.claim(REGION, record, moved[1], proof);
    }

    function test_TheZeroAddressIsNotMintedTo() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        leaves[0].account = address(0);
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(0);
        vm.expectRevert(IClaims.ZeroAccount.selector);
        ledger.claim(REGION, record, leaves[0], proof);
    }

    function test_ARecordCountsInItsOwnRegionOnly() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(0);
        vm.expectRevert(ISettlement.UnknownRecord.selector);
        ledger.claim(OTHER_REGION, record, leaves[0], proof);
        vm.expectRevert(ISettlement.UnknownRecord.selector);
        ledger.claimBatch(OTHER_REGION, record, leaves, proof);
    }

    function test_AnAccountEarnsInSeveralRegions() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Leaf[] memory others = leavesOf(list(50, 60, 70));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Record memory otherRecord = postLeaves(OTHER_REGION, 1, others);
        for (uint256 repetition = 0; repetition < 2; repetition++) {
            claimFirst(record, leaves);
            ledger.claim(OTHER_REGION, otherRecord, others[0], SumTree.build(others).proof(0));
            vm.assertEq(ledger.balanceOf(leaves[0].account), 55);
            vm.assertEq(ledger.mintedWh(REGION, leaves[0].account), 5);
            vm.assertEq(ledger.mintedWh(OTHER_REGION, leaves[0].account), 50);
        }
        vm.assertEq(ledger.totalSupply(), 55);
    }

    function test_AMintEmitsTransferAndClaim() public {
        ISettlementTypes.Leaf[] memory leaves = leavesOf(list(5, 6, 7));
        ISettlementTypes.Record memory record = postLeaves(REGION, 1, leaves);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(0);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit ICreditToken.Transfer(address(0), leaves[0].account, 5);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IClaims.Claimed(REGION, record.interval, 5);
        ledger.claim(REGION, record, leaves[0], proof);
    }

    function claimFirst(
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves
    ) private {
        ledger.claim(REGION, record, leaves[0], SumTree.build(leaves).proof(0));
    }

    function refuseBatch(
        ISettlementTypes.Record memory record,
        ISettlementTypes.Leaf[] memory leaves,
        ISettlementTypes.Node[] memory proof
    ) private {
        vm.expectRevert(IClaims.InvalidProof.selector);
        ledger.claimBatch(REGION, record, leaves, proof);
    }

    /// @dev The leaves whose bit is set in `chosen`, and their multiproof.
    function subsetOf(
        ISettlementTypes.Leaf[] memory leaves,
        uint256 chosen
    ) private pure returns (ISettlementTypes.Leaf[] memory subset, ISettlementTypes.Node[] memory proof) {
        uint256 size = 0;
        for (uint256 i = 0; i < leaves.length; i++) size += (chosen >> i) & 1;
        subset = new ISettlementTypes.Leaf[](size);
        uint256[] memory indices = new uint256[](size);
        uint256 next = 0;
        for (uint256 i = 0; i < leaves.length; i++) {
            if ((chosen >> i) & 1 == 0) continue;
            (subset[next], indices[next]) = (leaves[i], i);
            next++;
        }
        proof = SumTree.build(leaves).multiproof(indices);
    }
}
