// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice Calls itself so many times before it makes the call.
contract Diver {
    function dive(uint256 times, address target, bytes calldata data) external returns (bool done) {
        if (times > 0) {
            try this.dive(times - 1, target, data) returns (bool deeper) {
                return deeper;
            } catch {
                return false;
            }
        }
        (done, ) = target.call(data);
    }
}

/// @notice The members are the code of a contract that is created with each set.
contract RosterTest is WindowTest {
    ISettlementTypes.Rotation internal rotation;

    /// @dev A rotation that anyone may execute now.
    function setUp() public override {
        super.setUp();
        rotation.epoch = 1;
        rotation.threshold = THRESHOLD;
        rotation.vetoThreshold = VETO_THRESHOLD;
        rotation.members = authorities();
        bytes32 digest = ledger.rotationDigest(rotation);
        ledger.proposeRotation(rotation, signaturesFrom(0, THRESHOLD, digest));
        vm.warp(block.timestamp + 2 * WINDOW_S);
    }

    function test_ASetIsInstalledWholeOrNotAtAllHoweverLittleGasThereIs() public {
        bytes memory call = abi.encodeCall(IAuthoritySet.executeRotation, (rotation));
        for (uint256 gasLimit = 20_000; gasLimit < 400_000; gasLimit += 1000) {
            (bool done, ) = address(ledger).call{gas: gasLimit}(call);
            assertSet(done ? 2 : 1);
            if (done) return;
        }
        vm.assertTrue(false, "it was never installed");
    }

    /// @dev At a depth of 1,024 calls nothing can be created, whatever gas there is.
    function test_ASetIsInstalledWholeOrNotAtAllHoweverDeepTheCall() public {
        Diver diver = new Diver();
        bytes memory call = abi.encodeCall(IAuthoritySet.executeRotation, (rotation));
        for (uint256 times = 1024; times > 1000; times--) {
            bool done = diver.dive(times, address(ledger), call);
            assertSet(done ? 2 : 1);
            if (done) return;
        }
        vm.assertTrue(false, "it was never installed");
    }

    function assertSet(uint32 expected) private view {
        (uint32 epoch, , , address[] memory members) = ledger.authoritySet();
        vm.assertEq(epoch, expected);
        vm.assertEq(keccak256(abi.encode(members)), keccak256(abi.encode(authorities())));
    }
}
