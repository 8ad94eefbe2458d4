// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {IGovernance} from "../src/IGovernance.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {IVetoes} from "../src/IVetoes.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice How the authorities are replaced, by themselves and by governance, and what that means for what is pending.
contract RotationTest is WindowTest {
    uint256[] internal newKeys;
    ISettlementTypes.Settlement internal mature;
    ISettlementTypes.Settlement internal pending;

    function setUp() public override {
        super.setUp();
        mature = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        pending = postNext(REGION);
        newKeys = keysFrom(101);
    }

    function test_TheSetRotatesItselfAfterTwiceTheWindow() public {
        vm.assertEq(ledger.rotationDelayS(), 2 * WINDOW_S);
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        uint64 executableAt = uint64(block.timestamp) + 2 * WINDOW_S;
        bytes memory signatures = signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation));
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IAuthoritySet.RotationProposed(1, ledger.rotationDigest(rotation), executableAt);
        ledger.proposeRotation(rotation, signatures);
        (bytes32 waiting, uint64 at) = ledger.pendingRotation();
        vm.assertEq(waiting, ledger.rotationDigest(rotation));
        vm.assertEq(at, executableAt);

        vm.warp(executableAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.RotationPending.selector, executableAt));
        ledger.executeRotation(rotation);
        vm.warp(executableAt);
        vm.prank(address(0xbeef));
        ledger.executeRotation(rotation);
        requireSet(2, newKeys);
        (waiting, at) = ledger.pendingRotation();
        vm.assertEq(waiting, 0);
        vm.expectRevert(IAuthoritySet.UnknownRotation.selector);
        ledger.executeRotation(rotation);
    }

    function test_PostsNeedTheCurrentEpochAndPendingRecordsStand() public {
        ISettlementTypes.Settlement memory signedBefore = next(REGION);
        rotateByGovernance();
        refusePost(signedBefore, abi.encodeWithSelector(IAuthoritySet.WrongEpoch.selector, uint32(2)));
        bytes32 content = ledger.contentHash(signedBefore);
        signedBefore.authoritySetEpoch = 2;
        vm.assertEq(ledger.contentHash(signedBefore), content);
        keys = newKeys;
        post(signedBefore, signaturesOf(signedBefore, THRESHOLD));
        vm.warp(validAtOf(pending));
        claimFrom(pending);
    }

    function test_TheNewSetVetoesWhatTheOldOneSigned() public {
        bytes memory oldVeto = vetoSignatures(pending);
        ISettlementTypes.Record memory parent = recordOf(mature);
        rotateByGovernance();
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0)));
        ledger.veto(pending, parent, oldVeto);
        keys = newKeys;
        veto(pending, mature);
    }

    function test_GovernanceCanDropWhatIsPendingWithTheRotation() public {
        ISettlementTypes.Settlement memory other = postNext(OTHER_REGION);
        ISettlementTypes.Drop[] memory drops = new ISettlementTypes.Drop[](2);
        drops[0] = ISettlementTypes.Drop(pending, recordOf(mature));
        drops[1] = ISettlementTypes.Drop(other, recordOf(mature));
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, addressesOf(newKeys), drops);
        requireSet(2, newKeys);
        vm.assertEq(ledger.tip(REGION).interval, mature.interval);
        vm.assertEq(ledger.tip(REGION).round, 1);
        vm.assertEq(ledger.tip(OTHER_REGION).interval, 0);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        refuseClaim(pending, abi.encodeWithSelector(ISettlement.UnknownRecord.selector));
        keys = newKeys;
        postNext(REGION);
    }

    function test_ADropInAStoppedRegionLeavesItStopped() public {
        ISettlementTypes.Settlement memory last = postNext(REGION);
        veto(last, pending);
        ISettlementTypes.Drop[] memory drops = new ISettlementTypes.Drop[](1);
        drops[0] = ISettlementTypes.Drop(pending, recordOf(mature));
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, addressesOf(newKeys), drops);
        keys = newKeys;
        refusePost(next(REGION), abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        ledger.ruleVeto(REGION, 0, true);
        assertStatus(last, ISettlementTypes.RecordStatus.Unknown);
        postNext(REGION);
    }

    /// @dev Whoever is to be replaced could otherwise hold up a scheduled rotation by a veto of their own.
    function test_ADropThatAVetoCameBeforeDoesNotKeepTheSetFromBeingReplaced() public {
        ISettlementTypes.Settlement memory other = postNext(OTHER_REGION);
        ISettlementTypes.Drop[] memory drops = new ISettlementTypes.Drop[](2);
        drops[0] = ISettlementTypes.Drop(pending, recordOf(mature));
        drops[1] = ISettlementTypes.Drop(other, recordOf(mature));
        veto(pending, mature);
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, addressesOf(newKeys), drops);
        requireSet(2, newKeys);
        vm.assertEq(ledger.tip(REGION).round, 1);
        vm.assertEq(ledger.regionInfo(REGION).openVetoes, 1);
        vm.assertEq(ledger.tip(OTHER_REGION).interval, 0);
    }

    function test_ADropOfWhatIsNotPendingIsRefused() public {
        ISettlementTypes.Drop[] memory drops = new ISettlementTypes.Drop[](1);
        drops[0] = ISettlementTypes.Drop(mature, recordOf(mature));
        vm.expectRevert(abi.encodeWithSelector(IVetoes.RecordMature.selector, validAtOf(mature)));
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, addressesOf(newKeys), drops);
        drops[0].settlement.dataHash = 0;
        vm.expectRevert(ISettlement.UnknownRecord.selector);
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, addressesOf(newKeys), drops);
    }

    function test_ARotationIsSignedByTheThresholdOfTheCurrentSet() public {
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        bytes32 digest = ledger.rotationDigest(rotation);
        bytes memory few = signaturesFrom(0, 2, digest);
        vm.expectRevert(IAuthoritySet.WrongSignatureCount.selector);
        ledger.proposeRotation(rotation, few);
        bytes memory stranger = bytes.concat(signaturesFrom(0, 2, digest), signatureBy(99, digest));
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(2)));
        ledger.proposeRotation(rotation, stranger);
        rotation.epoch = 2;
        bytes memory signatures = signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation));
        vm.expectRevert(abi.encodeWithSelector(IAuthoritySet.WrongEpoch.selector, uint32(1)));
        ledger.proposeRotation(rotation, signatures);
        rotation.epoch = 1;
        rotation.threshold = 0;
        signatures = signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation));
        vm.expectRevert(IAuthoritySet.InvalidAuthorities.selector);
        ledger.proposeRotation(rotation, signatures);
    }

    function test_SignaturesOverARotationCountOnce() public {
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        propose(rotation);
        bytes memory signatures = signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation));
        vm.expectRevert(IAuthoritySet.RotationSpent.selector);
        ledger.proposeRotation(rotation, signatures);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IAuthoritySet.RotationCancelled(ledger.rotationDigest(rotation));
        ledger.cancelRotation();
        vm.expectRevert(IAuthoritySet.RotationSpent.selector);
        ledger.proposeRotation(rotation, signatures);
        vm.warp(block.timestamp + 3 * WINDOW_S);
        vm.expectRevert(IAuthoritySet.UnknownRotation.selector);
        ledger.executeRotation(rotation);
        vm.expectRevert(IAuthoritySet.UnknownRotation.selector);
        ledger.cancelRotation();
    }

    function test_ALaterProposalTakesThePlaceOfTheOneThatWaits() public {
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        propose(rotation);
        vm.warp(block.timestamp + WINDOW_S);
        ISettlementTypes.Rotation memory other = rotationTo(keysFrom(201));
        propose(other);
        vm.warp(block.timestamp + WINDOW_S);
        vm.expectRevert(IAuthoritySet.UnknownRotation.selector);
        ledger.executeRotation(rotation);
        vm.warp(block.timestamp + WINDOW_S);
        ledger.executeRotation(other);
        requireSet(2, keysFrom(201));
    }

    function test_ARotationThatWaitsGoesWithTheSetThatSignedIt() public {
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        propose(rotation);
        ledger.rotateAuthorities(
            THRESHOLD,
            VETO_THRESHOLD,
            addressesOf(keysFrom(201)),
            new ISettlementTypes.Drop[](0)
        );
        vm.warp(block.timestamp + 3 * WINDOW_S);
        vm.expectRevert(IAuthoritySet.UnknownRotation.selector);
        ledger.executeRotation(rotation);
    }

    function test_ASuspendedAuthorityIsInNoSetUntilReinstated() public {
        veto(pending, mature);
        ledger.ruleVeto(REGION, 0, false);
        address suspended = vm.addr(keys[4]);
        newKeys[4] = keys[4];
        newKeys = sorted(newKeys);
        vm.expectRevert(IAuthoritySet.InvalidAuthorities.selector);
        ledger.rotateAuthorities(
            THRESHOLD,
            VETO_THRESHOLD,
            addressesOf(newKeys),
            new ISettlementTypes.Drop[](0)
        );
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IAuthoritySet.AuthorityReinstated(suspended);
        ledger.reinstateAuthority(suspended);
        vm.assertEq(ledger.activeAuthorities(), 4);
        rotateByGovernance();
        vm.expectRevert(IGovernance.NotSuspended.selector);
        ledger.reinstateAuthority(suspended);
    }

    /// @dev Suspended while the rotation that names it waits.
    function test_ARotationThatCameToNameASuspendedAuthorityCannotBeExecuted() public {
        newKeys[4] = keys[4];
        newKeys = sorted(newKeys);
        ISettlementTypes.Rotation memory rotation = rotationTo(newKeys);
        propose(rotation);
        veto(pending, mature);
        ledger.ruleVeto(REGION, 0, false);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        vm.expectRevert(IAuthoritySet.InvalidAuthorities.selector);
        ledger.executeRotation(rotation);
        propose(rotationTo(keysFrom(201)));
    }

    function test_AStoppedRegionReopensWithoutGovernanceOnceTheSetHasRotatedItself() public {
        veto(pending, mature);
        vm.expectRevert(IVetoes.NotReopenable.selector);
        ledger.reopenAfterRotation(REGION);
        rotateByGovernance();
        vm.expectRevert(IVetoes.NotReopenable.selector);
        ledger.reopenAfterRotation(REGION);

        uint256[] memory outgoing = keys;
        keys = newKeys;
        ISettlementTypes.Rotation memory rotation = rotationTo(keysFrom(201));
        rotation.epoch = 2;
        propose(rotation);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        ledger.executeRotation(rotation);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IVetoes.RegionReopened(REGION, 1);
        ledger.reopenAfterRotation(REGION);
        vm.expectRevert(IVetoes.NotReopenable.selector);
        ledger.reopenAfterRotation(REGION);
        keys = keysFrom(201);
        postNext(REGION);

        // A ruling that comes after all still suspends, and stops counting what is open.
        ledger.ruleVeto(REGION, 0, false);
        vm.assertTrue(ledger.isSuspended(vm.addr(outgoing[3])));
        vm.assertEq(ledger.regionInfo(REGION).openVetoes, 0);
    }

    function test_AVetoByASetThatRotatedItselfWaitsForARulingOrTheNextOne() public {
        rotateByItself(rotationTo(newKeys));
        keys = newKeys;
        veto(postNext(REGION), pending);
        vm.expectRevert(IVetoes.NotReopenable.selector);
        ledger.reopenAfterRotation(REGION);

        ISettlementTypes.Rotation memory rotation = rotationTo(keysFrom(201));
        rotation.epoch = 2;
        rotateByItself(rotation);
        ledger.reopenAfterRotation(REGION);
        keys = keysFrom(201);
        // The veto of the round in which the region was reopened waits again.
        veto(postNext(REGION), pending);
        refusePost(next(REGION), abi.encodeWithSelector(ISettlement.RegionStopped.selector, REGION));
        ledger.ruleVeto(REGION, 1, true);
        postNext(REGION);
    }

    function test_NobodyOfANewSetIsSuspendedForTheirPlaceInTheOldOne() public {
        veto(pending, mature);
        ledger.ruleVeto(REGION, 0, false);
        vm.assertEq(ledger.activeAuthorities(), 3);
        rotateByGovernance();
        vm.assertEq(ledger.activeAuthorities(), 5);
        keys = newKeys;
        ISettlementTypes.Settlement memory settlement = next(REGION);
        post(settlement, signaturesFrom(2, 5, ledger.digest(settlement)));
    }

    function rotateByItself(ISettlementTypes.Rotation memory rotation) private {
        propose(rotation);
        vm.warp(block.timestamp + 2 * WINDOW_S);
        ledger.executeRotation(rotation);
    }

    function rotateByGovernance() private {
        ledger.rotateAuthorities(
            THRESHOLD,
            VETO_THRESHOLD,
            addressesOf(newKeys),
            new ISettlementTypes.Drop[](0)
        );
    }

    function propose(ISettlementTypes.Rotation memory rotation) private {
        bytes memory signatures = signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation));
        ledger.proposeRotation(rotation, signatures);
    }

    function rotationTo(uint256[] memory to) private pure returns (ISettlementTypes.Rotation memory) {
        return ISettlementTypes.Rotation(1, THRESHOLD, VETO_THRESHOLD, addressesOf(to));
    }

    function requireSet(uint32 expectedEpoch, uint256[] memory expected) private view {
        (uint32 epoch, , , address[] memory members) = ledger.authoritySet();
        vm.assertEq(epoch, expectedEpoch);
        vm.assertEq(keccak256(abi.encode(members)), keccak256(abi.encode(addressesOf(expected))));
    }

    function keysFrom(uint256 first) private pure returns (uint256[] memory list_) {
        list_ = new uint256[](5);
        for (uint256 i = 0; i < 5; i++) list_[i] = first + i;
        return sorted(list_);
    }

    function sorted(uint256[] memory list_) private pure returns (uint256[] memory) {
        for (uint256 i = 1; i < list_.length; i++) {
            for (uint256 j = i; j > 0 && vm.addr(list_[j]) < vm.addr(list_[j - 1]); j--) {
                (list_[j], list_[j - 1]) = (list_[j - 1], list_[j]);
            }
        }
        return list_;
    }

    function addressesOf(uint256[] memory list_) private pure returns (address[] memory members) {
        members = new address[](list_.length);
        for (uint256 i = 0; i < list_.length; i++) members[i] = vm.addr(list_[i]);
    }
}
