// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementFixture} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice Authorities, relayers, claimants and traders in any order: two regions, the same five accounts in both.
contract World is SettlementFixture {
    using SumTree for SumTree.Tree;

    uint256 private constant ACCOUNTS = 5;
    uint256 private constant KEPT = 8;

    struct Batch {
        ISettlementTypes.Record record;
        ISettlementTypes.Leaf[] leaves;
    }

    mapping(uint32 region => Batch[]) private batches;
    /// @dev The most that any claim so far has proven for the account in the region.
    mapping(uint32 region => mapping(address => uint256)) public provenWh;
    mapping(uint32 region => uint256) public lastMintedWh;
    bool public mintedFell;

    constructor() {
        deployLedger(0);
    }

    function post(
        bool first,
        uint64[5] calldata risesWh,
        uint64[5] calldata debitsWh,
        uint8 intervals
    ) external {
        uint32 region = first ? REGION : OTHER_REGION;
        Batch[] storage history = batches[region];
        ISettlementTypes.Leaf[] memory leaves =
            history.length == 0 ? leavesOf(new uint64[](ACCOUNTS)) : history[history.length - 1].leaves;
        for (uint256 i = 0; i < ACCOUNTS; i++) {
            leaves[i].creditWh += risesWh[i] % uint64(CAP_WH / ACCOUNTS);
            // Now and then a correction, never beyond what was credited.
            uint64 roomWh = leaves[i].creditWh - leaves[i].debitWh;
            if (debitsWh[i] % 4 == 0) leaves[i].debitWh += debitsWh[i] % (roomWh + 1);
        }
        uint64 steps = 1 + (intervals % 4);
        vm.warp(block.timestamp + steps * LENGTH_S);
        ISettlementTypes.Record memory record = postLeaves(region, steps, leaves);
        Batch storage kept = history.push();
        kept.record = record;
        for (uint256 i = 0; i < ACCOUNTS; i++) kept.leaves.push(leaves[i]);
    }

    function claim(bool first, uint256 age, uint256 index) external {
        (uint32 region, Batch memory batch, bool found) = recent(first, age);
        if (!found) return;
        index %= ACCOUNTS;
        ledger.claim(region, batch.record, batch.leaves[index], SumTree.build(batch.leaves).proof(index));
        noteProven(region, batch.leaves[index]);
        noteMinted(region);
    }

    function claimAll(bool first, uint256 age) external {
        (uint32 region, Batch memory batch, bool found) = recent(first, age);
        if (!found) return;
        ledger.claimBatch(region, batch.record, batch.leaves, new ISettlementTypes.Node[](0));
        for (uint256 i = 0; i < ACCOUNTS; i++) noteProven(region, batch.leaves[i]);
        noteMinted(region);
    }

    function transfer(uint256 from, uint256 to, uint256 value) external {
        address holder = account(from % ACCOUNTS);
        value %= ledger.balanceOf(holder) + 1;
        vm.prank(holder);
        ledger.transfer(account(to % ACCOUNTS), value);
    }

    function account(uint256 index) public pure returns (address) {
        return address(uint160(0x1001 + index));
    }

    function balancesWh() external view returns (uint256 sumWh) {
        for (uint256 i = 0; i < ACCOUNTS; i++) sumWh += ledger.balanceOf(account(i));
    }

    function supplyWh() external view returns (uint256) {
        return ledger.totalSupply();
    }

    function attestedWh(uint32 region) external view returns (uint256) {
        return ledger.tip(region).cumulativeCreditWh;
    }

    function mintedWh(uint32 region) external view returns (uint256) {
        return ledger.regionInfo(region).mintedWh;
    }

    function mintedToWh(uint32 region, uint256 index) external view returns (uint256) {
        return ledger.mintedWh(region, account(index));
    }

    function recent(
        bool first,
        uint256 age
    ) private view returns (uint32 region, Batch memory batch, bool found) {
        region = first ? REGION : OTHER_REGION;
        Batch[] storage history = batches[region];
        if (history.length == 0) return (region, batch, false);
        uint256 kept = history.length < KEPT ? history.length : KEPT;
        return (region, history[history.length - 1 - (age % kept)], true);
    }

    function noteProven(uint32 region, ISettlementTypes.Leaf memory leaf) private {
        uint256 netWh = leaf.creditWh - leaf.debitWh;
        if (netWh > provenWh[region][leaf.account]) provenWh[region][leaf.account] = netWh;
    }

    function noteMinted(uint32 region) private {
        uint256 minted = ledger.regionInfo(region).mintedWh;
        if (minted < lastMintedWh[region]) mintedFell = true;
        lastMintedWh[region] = minted;
    }
}

contract InvariantsTest is SettlementFixture {
    World internal world;

    function setUp() public {
        world = new World();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(world);
    }

    function invariant_MintedIsWhatWasProvenAndNeverMoreThanAttested() public view {
        uint32[2] memory regions = [REGION, OTHER_REGION];
        for (uint256 r = 0; r < regions.length; r++) {
            uint256 sumWh = 0;
            for (uint256 i = 0; i < 5; i++) {
                uint256 mintedWh = world.mintedToWh(regions[r], i);
                vm.assertEq(
                    mintedWh,
                    world.provenWh(regions[r], world.account(i)),
                    "minted is what was proven"
                );
                sumWh += mintedWh;
            }
            vm.assertEq(sumWh, world.mintedWh(regions[r]), "a region's total is its accounts'");
            vm.assertLe(sumWh, world.attestedWh(regions[r]), "minted is at most attested");
        }
    }

    function invariant_BalancesAddUpToTheSupply() public view {
        vm.assertEq(world.balancesWh(), world.supplyWh(), "balances add up");
        vm.assertFalse(world.mintedFell(), "minted never falls");
    }
}
