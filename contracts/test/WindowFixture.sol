// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IClaims} from "../src/IClaims.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SettlementFixture} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";

/// @notice The fixture's contract with a window of 36 hours, and settlements that can be vetoed.
abstract contract WindowFixture is SettlementFixture {
    using SumTree for SumTree.Tree;

    uint64 internal constant WINDOW_S = 36 hours;

    /// @dev By `postNext`.
    ISettlementTypes.Settlement internal lastPosted;

    /// @dev The leaves of `postNext`: the first account has everything.
    function leavesWith(uint64 firstWh) internal pure returns (ISettlementTypes.Leaf[] memory) {
        return leavesOf(list(firstWh, 0, 0));
    }

    /// @dev A settlement that gives the first account 100 Wh more.
    function next(uint32 region) internal view returns (ISettlementTypes.Settlement memory settlement) {
        settlement = settlementOf(region, 1, leavesWith(ledger.tip(region).cumulativeCreditWh + 100));
        settlement.cumulativeDebitWh = ledger.tip(region).cumulativeDebitWh + 1;
        (settlement.authoritySetEpoch, , , ) = ledger.authoritySet();
    }

    function postNext(uint32 region) internal returns (ISettlementTypes.Settlement memory settlement) {
        settlement = next(region);
        post(settlement, signaturesOf(settlement, THRESHOLD));
        lastPosted = settlement;
    }

    /// @dev The signatures of the authorities from `first` to before `end`.
    function signaturesFrom(
        uint256 first,
        uint256 end,
        bytes32 digest
    ) internal view returns (bytes memory signatures) {
        for (uint256 i = first; i < end; i++)
            signatures = bytes.concat(signatures, signatureBy(keys[i], digest));
    }

    /// @dev By the last two authorities.
    function vetoSignatures(
        ISettlementTypes.Settlement memory settlement
    ) internal view returns (bytes memory) {
        return signaturesFrom(3, 5, ledger.vetoDigest(settlement));
    }

    function veto(
        ISettlementTypes.Settlement memory settlement,
        ISettlementTypes.Settlement memory parent
    ) internal {
        bytes memory signatures = vetoSignatures(settlement);
        ISettlementTypes.Record memory record = recordOf(parent);
        ledger.veto(settlement, record, signatures);
    }

    function refuseVeto(
        ISettlementTypes.Settlement memory settlement,
        ISettlementTypes.Settlement memory parent,
        bytes memory revertData
    ) internal {
        bytes memory signatures = vetoSignatures(settlement);
        ISettlementTypes.Record memory record = recordOf(parent);
        vm.expectRevert(revertData);
        ledger.veto(settlement, record, signatures);
    }

    function refusePost(ISettlementTypes.Settlement memory settlement, bytes memory revertData) internal {
        bytes memory signatures = signaturesOf(settlement, THRESHOLD);
        vm.expectRevert(revertData);
        post(settlement, signatures);
    }

    /// @dev The calldata with which the first account claims what `next` gave it.
    function claimOf(ISettlementTypes.Settlement memory settlement) internal view returns (bytes memory) {
        ISettlementTypes.Leaf[] memory leaves = leavesWith(settlement.cumulativeCreditWh);
        return
            abi.encodeCall(
                IClaims.claim,
                (settlement.region, recordOf(settlement), leaves[0], SumTree.build(leaves).proof(0))
            );
    }

    function claimFrom(ISettlementTypes.Settlement memory settlement) internal {
        (bool done, ) = address(ledger).call(claimOf(settlement));
        vm.assertTrue(done, "the claim is paid");
    }

    function refuseClaim(ISettlementTypes.Settlement memory settlement, bytes memory revertData) internal {
        (bool done, bytes memory data) = address(ledger).call(claimOf(settlement));
        vm.assertFalse(done, "the claim is refused");
        vm.assertEq(keccak256(data), keccak256(revertData));
    }

    function assertStatus(
        ISettlementTypes.Settlement memory settlement,
        ISettlementTypes.RecordStatus expected
    ) internal view {
        (ISettlementTypes.RecordStatus status, ) = ledger.recordStatus(
            settlement.region,
            recordOf(settlement)
        );
        vm.assertEq(uint256(status), uint256(expected));
    }

    function validAtOf(ISettlementTypes.Settlement memory settlement) internal view returns (uint64 validAt) {
        (, validAt) = ledger.recordStatus(settlement.region, recordOf(settlement));
    }

    /// @dev Everything a veto has to restore, without the round.
    function stateOf(uint32 region) internal view returns (bytes32) {
        ISettlementTypes.Tip memory tip = ledger.tip(region);
        tip.round = 0;
        return keccak256(abi.encode(tip));
    }
}

/// @notice A test that starts from the fixture's contract.
abstract contract WindowTest is WindowFixture {
    function setUp() public virtual {
        deployLedger(WINDOW_S);
    }
}
