// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {SumTree} from "./SumTree.sol";
import {Vm} from "./Vm.sol";

/// @notice All that the contract can be asked.
interface ILedger is ISettlement, ICreditToken {}

/// @notice A contract with 3 of 5 authorities and two regions, and an honest off-chain side to drive it.
abstract contract SettlementFixture {
    using SumTree for SumTree.Tree;

    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint64 internal constant LENGTH_S = 900;
    uint64 internal constant START = 2_000_000 * LENGTH_S;
    uint64 internal constant CAP_WH = 1_000_000;
    uint32 internal constant REGION = 7;
    uint32 internal constant OTHER_REGION = 8;
    uint8 internal constant THRESHOLD = 3;

    ILedger internal ledger;
    /// @dev Ascending by address.
    uint256[] internal keys;

    function deployLedger() internal {
        vm.warp(START + 1000 * LENGTH_S);
        for (uint256 key = 11; key <= 15; key++) insertKey(key);
        ledger = deploy(address(this), LENGTH_S, THRESHOLD, authorities());
        ledger.registerRegion(REGION, "bangkok", CAP_WH, START);
        ledger.registerRegion(OTHER_REGION, "northern", CAP_WH, START);
    }

    /// @dev Deploys what the compiler made for release, so that tests compile fast and test the released code.
    function deploy(
        address owner,
        uint64 intervalLengthS,
        uint8 threshold,
        address[] memory members
    ) internal returns (ILedger deployed) {
        bytes memory code = bytes.concat(
            vm.getCode("Settlement.sol:Settlement"),
            abi.encode(owner, intervalLengthS, threshold, members)
        );
        assembly {
            deployed := create(0, add(code, 32), mload(code))
        }
    }

    function insertKey(uint256 key) private {
        keys.push(key);
        for (uint256 i = keys.length - 1; i > 0 && vm.addr(keys[i]) < vm.addr(keys[i - 1]); i--) {
            (keys[i], keys[i - 1]) = (keys[i - 1], keys[i]);
        }
    }

    function authorities() internal view returns (address[] memory members) {
        members = new address[](keys.length);
        for (uint256 i = 0; i < keys.length; i++) members[i] = vm.addr(keys[i]);
    }

    /// @dev Accounts 0x1001, 0x1002, ... with the given credits and no debits.
    function leavesOf(uint64[] memory creditsWh) internal pure returns (ISettlement.Leaf[] memory leaves) {
        leaves = new ISettlement.Leaf[](creditsWh.length);
        for (uint32 i = 0; i < leaves.length; i++) {
            leaves[i] = ISettlement.Leaf(i, address(uint160(0x1001 + i)), creditsWh[i], 0);
        }
    }

    /// @dev The settlement that continues the region's tip by `intervals` intervals with these leaves.
    function settlementOf(
        uint32 region,
        uint64 intervals,
        ISettlement.Leaf[] memory leaves
    ) internal view returns (ISettlement.Settlement memory settlement) {
        ISettlement.Tip memory tip = ledger.tip(region);
        ISettlement.Node memory root = SumTree.build(leaves).root();
        uint64 debitWh = 0;
        for (uint256 i = 0; i < leaves.length; i++) debitWh += leaves[i].debitWh;
        settlement = ISettlement.Settlement({
            region: region,
            round: tip.round,
            interval: (tip.interval == 0 ? START : tip.interval) + intervals * LENGTH_S,
            prevInterval: tip.interval,
            prevRoot: tip.root,
            root: root.hash,
            intervalCreditWh: root.sumWh - tip.cumulativeCreditWh,
            cumulativeCreditWh: root.sumWh,
            cumulativeDebitWh: debitWh,
            leafCount: uint32(leaves.length),
            dataHash: keccak256("evidence"),
            authoritySetEpoch: 1
        });
    }

    function recordOf(
        ISettlement.Settlement memory settlement
    ) internal view returns (ISettlement.Record memory) {
        return
            ISettlement.Record({
                contentHash: ledger.contentHash(settlement),
                root: settlement.root,
                interval: settlement.interval,
                cumulativeCreditWh: settlement.cumulativeCreditWh,
                cumulativeDebitWh: settlement.cumulativeDebitWh,
                leafCount: settlement.leafCount
            });
    }

    /// @dev The signatures of the first `count` authorities.
    function signaturesOf(
        ISettlement.Settlement memory settlement,
        uint256 count
    ) internal view returns (bytes memory signatures) {
        bytes32 digest = ledger.digest(settlement);
        for (uint256 i = 0; i < count; i++)
            signatures = bytes.concat(signatures, signatureBy(keys[i], digest));
    }

    function signatureBy(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function postLeaves(
        uint32 region,
        uint64 intervals,
        ISettlement.Leaf[] memory leaves
    ) internal returns (ISettlement.Record memory) {
        ISettlement.Settlement memory settlement = settlementOf(region, intervals, leaves);
        ledger.post(settlement, signaturesOf(settlement, THRESHOLD));
        return recordOf(settlement);
    }

    /// @dev Any list of `count` credits that a region's first interval may have.
    function creditsFrom(uint256 seed, uint256 count) internal pure returns (uint64[] memory creditsWh) {
        creditsWh = new uint64[](count);
        for (uint256 i = 0; i < count; i++) {
            creditsWh[i] = uint64(uint256(keccak256(abi.encode(seed, i))) % (CAP_WH / count));
        }
    }

    function list(uint64 first, uint64 second, uint64 third) internal pure returns (uint64[] memory numbers) {
        numbers = new uint64[](3);
        (numbers[0], numbers[1], numbers[2]) = (first, second, third);
    }
}

/// @notice A test that starts from the fixture's contract.
abstract contract SettlementTest is SettlementFixture {
    function setUp() public virtual {
        deployLedger();
    }
}
