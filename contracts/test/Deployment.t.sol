// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlement} from "../src/ISettlement.sol";
import {SettlementTest} from "./SettlementFixture.sol";

/// @notice What a deployment and a registration must look like.
contract DeploymentTest is SettlementTest {
    function test_TheSetOfTheDeploymentIsEpoch1() public view {
        (uint32 epoch, uint8 threshold, address[] memory members) = ledger.authoritySet();
        vm.assertEq(epoch, 1);
        vm.assertEq(threshold, THRESHOLD);
        vm.assertEq(keccak256(abi.encode(members)), keccak256(abi.encode(authorities())));
    }

    function test_ADeploymentHasAnOwnerAnIntervalAndAReachableThreshold() public {
        address[] memory members = authorities();
        vm.expectRevert(ISettlement.InvalidDeployment.selector);
        deploy(address(0), LENGTH_S, THRESHOLD, members);
        vm.expectRevert(ISettlement.InvalidDeployment.selector);
        deploy(address(this), 0, THRESHOLD, members);
        vm.expectRevert(ISettlement.InvalidDeployment.selector);
        deploy(address(this), LENGTH_S, 0, members);
        vm.expectRevert(ISettlement.InvalidDeployment.selector);
        deploy(address(this), LENGTH_S, 6, members);
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

    function test_OnlyTheOwnerRegisters() public {
        vm.prank(address(0xbeef));
        vm.expectRevert(ISettlement.NotOwner.selector);
        ledger.registerRegion(9, "western", CAP_WH, START);
    }

    function test_ARegistrationIsComplete() public {
        refuseRegion(0, "western", CAP_WH, START);
        refuseRegion(9, "", CAP_WH, START);
        refuseRegion(9, "a name that is longer than 31 b.", CAP_WH, START);
        refuseRegion(9, "western", 0, START);
        refuseRegion(9, "western", CAP_WH, START + 1);
    }

    function test_NumbersAndNamesAreUnique() public {
        vm.expectRevert(abi.encodeWithSelector(ISettlement.RegionExists.selector, REGION));
        ledger.registerRegion(REGION, "western", CAP_WH, START);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.RegionExists.selector, uint32(9)));
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
        ISettlement.RegionInfo memory info = ledger.regionInfo(REGION);
        vm.assertEq(info.name, "bangkok");
        vm.assertEq(info.capWh, CAP_WH);
        vm.assertEq(info.startInterval, START);
        vm.assertEq(info.mintedWh, 0);
        vm.assertEq(ledger.tip(REGION).recordSlot, bytes32(0));
    }

    function refuseAuthorities(address[] memory members) private {
        vm.expectRevert(ISettlement.InvalidAuthorities.selector);
        deploy(address(this), LENGTH_S, THRESHOLD, members);
    }

    function refuseRegion(uint32 region, string memory name, uint64 capWh, uint64 start) private {
        vm.expectRevert(ISettlement.InvalidRegion.selector);
        ledger.registerRegion(region, name, capWh, start);
    }
}
