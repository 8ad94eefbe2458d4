// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {IGovernance} from "../src/IGovernance.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {ILedger, SettlementTest} from "./SettlementFixture.sol";

/// @notice What a deployment and a registration must look like.
contract DeploymentTest is SettlementTest {
    function test_TheSetOfTheDeploymentIsEpoch1() public view {
        (uint32 epoch, uint8 threshold, uint8 vetoThreshold, address[] memory members) = ledger
            .authoritySet();
        vm.assertEq(epoch, 1);
        vm.assertEq(threshold, THRESHOLD);
        vm.assertEq(vetoThreshold, VETO_THRESHOLD);
        vm.assertEq(keccak256(abi.encode(members)), keccak256(abi.encode(authorities())));
    }

    function test_ADeploymentHasAManagerAnIntervalAndABoundedWindow() public {
        refuseDeployment(59, 0);
        refuseDeployment(LENGTH_S, 30 days + 1);
        manager = address(0xbeef);
        refuseDeployment(LENGTH_S, 0);
    }

    function test_TheBoundsThemselvesAreAllowed() public {
        address[] memory members = new address[](32);
        for (uint160 i = 0; i < 32; i++) members[i] = address(i + 1);
        ILedger widest = deploy(1 minutes, 30 days, 16, 16, members);
        vm.assertEq(widest.windowS(), 30 days);
        vm.assertEq(widest.intervalLengthS(), 1 minutes);
        vm.assertEq(widest.activeAuthorities(), 32);
        uint64 last = (uint64(type(uint48).max) / LENGTH_S) * LENGTH_S;
        ledger.registerRegion(9, "a name of just thirty-one bytes", CAP_WH, last);
        vm.assertEq(ledger.regionInfo(9).startInterval, last);
    }

    function test_ThresholdsAreWithinReach() public {
        // threshold, vetoThreshold: of five.
        uint8[2][6] memory refused = [[0, 1], [6, 0], [5, 1], [4, 2], [3, 3], [3, 0]];
        for (uint256 i = 0; i < refused.length; i++) {
            vm.expectRevert(IAuthoritySet.InvalidAuthorities.selector);
            deploy(LENGTH_S, 0, refused[i][0], refused[i][1], authorities());
        }
        uint8[2][3] memory accepted = [[1, 4], [4, 1], [5, 0]];
        for (uint256 i = 0; i < accepted.length; i++) {
            deploy(LENGTH_S, 0, accepted[i][0], accepted[i][1], authorities());
        }
    }

    function test_AuthoritiesAscendStrictlyFromAboveZeroAndAreAtMost32() public {
        address[] memory members = authorities();
        (members[1], members[2]) = (members[2], members[1]);
        refuseAuthorities(members);
        members[1] = members[0];
        refuseAuthorities(members);
        members = authorities();
        members[0] = address(0);
        refuseAuthorities(members);
        members = new address[](33);
        for (uint160 i = 0; i < 33; i++) members[i] = address(i + 1);
        refuseAuthorities(members);
    }

    function test_OnlyGovernanceRegisters() public {
        vm.prank(address(0xbeef));
        vm.expectRevert(abi.encodeWithSelector(ILedger.AccessManagedUnauthorized.selector, address(0xbeef)));
        ledger.registerRegion(9, "western", CAP_WH, START);
    }

    function test_ARegistrationIsComplete() public {
        refuseRegion(0, "western", CAP_WH, START);
        refuseRegion(9, "", CAP_WH, START);
        refuseRegion(9, "a name that is longer than 31 b.", CAP_WH, START);
        refuseRegion(9, "western", CAP_WH, (uint64(type(uint48).max) / LENGTH_S + 1) * LENGTH_S);
        refuseRegion(9, "western", CAP_WH, START + 1);
    }

    function test_ACapIsAbove0AndFitsItsPlace() public {
        uint64[2] memory refused = [0, uint64(1) << 39];
        for (uint256 i = 0; i < refused.length; i++) {
            vm.expectRevert(IGovernance.InvalidCap.selector);
            ledger.registerRegion(9, "western", refused[i], START);
            vm.expectRevert(IGovernance.InvalidCap.selector);
            ledger.setCap(REGION, refused[i]);
        }
        ledger.registerRegion(9, "western", (uint64(1) << 39) - 1, START);
        vm.assertEq(ledger.regionInfo(9).capWh, (uint64(1) << 39) - 1);
    }

    function test_NumbersAndNamesAreUnique() public {
        vm.expectRevert(abi.encodeWithSelector(IGovernance.RegionExists.selector, REGION));
        ledger.registerRegion(REGION, "western", CAP_WH, START);
        vm.expectRevert(abi.encodeWithSelector(IGovernance.RegionExists.selector, uint32(9)));
        ledger.registerRegion(9, "bangkok", CAP_WH, START);
    }

    function test_ThereAreAtMost256Regions() public {
        for (uint32 region = 1000; region < 1254; region++) {
            ledger.registerRegion(region, string(abi.encodePacked("r", region)), CAP_WH, START);
        }
        vm.assertEq(ledger.regions().length, 256);
        refuseRegion(9, "western", CAP_WH, START);
    }

    function test_ARegionTellsItsTerms() public view {
        ISettlementTypes.RegionInfo memory info = ledger.regionInfo(REGION);
        vm.assertEq(info.name, "bangkok");
        vm.assertEq(info.capWh, CAP_WH);
        vm.assertEq(info.startInterval, START);
        vm.assertEq(info.mintedWh, 0);
        vm.assertEq(ledger.tip(REGION).recordSlot, bytes32(0));
    }

    function refuseAuthorities(address[] memory members) private {
        vm.expectRevert(IAuthoritySet.InvalidAuthorities.selector);
        deploy(LENGTH_S, 0, THRESHOLD, VETO_THRESHOLD, members);
    }

    function refuseDeployment(uint64 intervalLengthS, uint64 windowS) private {
        vm.expectRevert(ISettlement.InvalidDeployment.selector);
        deploy(intervalLengthS, windowS, THRESHOLD, VETO_THRESHOLD, authorities());
    }

    function refuseRegion(uint32 region, string memory name, uint64 capWh, uint64 start) private {
        vm.expectRevert(IGovernance.InvalidRegion.selector);
        ledger.registerRegion(region, name, capWh, start);
    }
}
