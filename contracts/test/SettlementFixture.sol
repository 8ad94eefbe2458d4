// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SumTree} from "./SumTree.sol";
import {Vm} from "./Vm.sol";

/// @notice All that the contract can be asked.
interface ILedger is ISettlement, ICreditToken {
    /// @notice OpenZeppelin's: governance does not let the caller do this.
    error AccessManagedUnauthorized(address caller);
}

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
    uint8 internal constant VETO_THRESHOLD = 2;

    ILedger internal ledger;
    /// @dev Its only administrator is the test.
    address internal manager;
    /// @dev Ascending by address.
    uint256[] internal keys;

    function deployLedger(uint64 windowS) internal {
        vm.warp(START + 1000 * LENGTH_S);
        for (uint256 key = 11; key <= 15; key++) insertKey(key);
        manager = deployCode(vm.getCode("AccessManager.sol:AccessManager"), abi.encode(address(this)));
        ledger = deploy(LENGTH_S, windowS, THRESHOLD, VETO_THRESHOLD, authorities());
        ledger.registerRegion(REGION, "bangkok", CAP_WH, START);
        ledger.registerRegion(OTHER_REGION, "northern", CAP_WH, START);
    }

    /// @dev Deploys what the compiler made for release, so that tests compile fast and test the released code.
    function deploy(
        uint64 intervalLengthS,
        uint64 windowS,
        uint8 threshold,
        uint8 vetoThreshold,
        address[] memory members
    ) internal returns (ILedger) {
        bytes memory terms = abi.encode(manager, intervalLengthS, windowS, threshold, vetoThreshold, members);
        return ILedger(deployCode(vm.getCode("Settlement.sol:Settlement"), terms));
    }

    /// @dev Reverts with what the constructor reverted with.
    function deployCode(bytes memory code, bytes memory terms) internal returns (address deployed) {
        code = bytes.concat(code, terms);
        assembly {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
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
    function leavesOf(
        uint64[] memory creditsWh
    ) internal pure returns (ISettlementTypes.Leaf[] memory leaves) {
        leaves = new ISettlementTypes.Leaf[](creditsWh.length);
        for (uint32 i = 0; i < leaves.length; i++) {
            leaves[i] = ISettlementTypes.Leaf(i, address(uint160(0x1001 + i)), creditsWh[i], 0);
        }
    }

    /// @dev The settlement that continues the region's tip by `intervals` intervals with these leaves.
    function settlementOf(
        uint32 region,
        uint64 intervals,
        ISettlementTypes.Leaf[] memory leaves
    ) internal view returns (ISettlementTypes.Settlement memory settlement) {
        ISettlementTypes.Tip memory tip = ledger.tip(region);
        ISettlementTypes.Node memory root = SumTree.build(leaves).root();
        uint64 debitWh = 0;
        for (uint256 i = 0; i < leaves.length; i++) debitWh += leaves[i].debitWh;
        settlement = ISettlementTypes.Settlement({
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
        ISettlementTypes.Settlement memory settlement
    ) internal view returns (ISettlementTypes.Record memory) {
        return
            ISettlementTypes.Record({
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
        ISettlementTypes.Settlement memory settlement,
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
        ISettlementTypes.Leaf[] memory leaves
    ) internal returns (ISettlementTypes.Record memory) {
        ISettlementTypes.Settlement memory settlement = settlementOf(region, intervals, leaves);
        post(settlement, signaturesOf(settlement, THRESHOLD));
        return recordOf(settlement);
    }

    function post(ISettlementTypes.Settlement memory settlement, bytes memory signatures) internal {
        ledger.post(signatures, alone(settlement));
    }

    function alone(
        ISettlementTypes.Settlement memory settlement
    ) internal pure returns (ISettlementTypes.Settlement[] memory settlements) {
        settlements = new ISettlementTypes.Settlement[](1);
        settlements[0] = settlement;
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
        deployLedger(0);
    }
}
