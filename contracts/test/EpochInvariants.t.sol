// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {WindowFixture} from "./WindowFixture.sol";

/// @notice Sets of five out of eight authorities follow each other; before every honest post others are tried, which
/// fewer than k distinct members of the current set have signed.
contract EpochWorld is WindowFixture {
    uint256 private constant POOL = 8;

    /// @dev Ascending by address. The current set's are five in a row, from `first` on; `keys` has them.
    uint256[] private pool;
    uint256 private first;
    uint256 private previousFirst;
    uint256 private forgeries;
    ISettlementTypes.Settlement[] private honest;
    ISettlementTypes.Settlement[] private forged;

    constructor() {
        deployLedger(WINDOW_S);
        for (uint256 key = 11; key < 11 + POOL; key++) insert(key);
        ledger.rotateAuthorities(THRESHOLD, VETO_THRESHOLD, membersFrom(0), new ISettlementTypes.Drop[](0));
        takeKeys();
    }

    function rotateByGovernance(uint8 to) external {
        previousFirst = first;
        first = to % (POOL - 4);
        ledger.rotateAuthorities(
            THRESHOLD,
            VETO_THRESHOLD,
            membersFrom(first),
            new ISettlementTypes.Drop[](0)
        );
        takeKeys();
    }

    function rotateItself(uint8 to) external {
        (uint32 epoch, , , ) = ledger.authoritySet();
        uint256 next_ = to % (POOL - 4);
        ISettlementTypes.Rotation memory rotation = ISettlementTypes.Rotation(
            epoch,
            THRESHOLD,
            VETO_THRESHOLD,
            membersFrom(next_)
        );
        ledger.proposeRotation(rotation, signaturesFrom(0, THRESHOLD, ledger.rotationDigest(rotation)));
        vm.warp(block.timestamp + 2 * WINDOW_S);
        ledger.executeRotation(rotation);
        (previousFirst, first) = (first, next_);
        takeKeys();
    }

    function postSome(uint8 stranger) external {
        vm.warp(block.timestamp + LENGTH_S);
        ISettlementTypes.Settlement memory settlement = next(REGION);
        uint32 epoch = settlement.authoritySetEpoch;

        bytes32 digest = forge(settlement);
        refuse(settlement, signaturesFrom(0, THRESHOLD - 1, digest), "k - 1");
        refuse(settlement, withStranger(digest, stranger), "k - 1 and a stranger");
        bytes memory twice = signaturesFrom(THRESHOLD - 2, THRESHOLD - 1, digest);
        refuse(settlement, bytes.concat(signaturesFrom(0, THRESHOLD - 1, digest), twice), "one twice");

        settlement.authoritySetEpoch = epoch - 1;
        digest = forge(settlement);
        refuse(settlement, fromPool(previousFirst, digest), "the set before, in its epoch");
        refuse(settlement, fromPool(first, digest), "the current set, in another's epoch");

        settlement = next(REGION);
        post(settlement, signaturesOf(settlement, THRESHOLD));
        honest.push(settlement);
    }

    function passTime(uint32 seconds_) external {
        vm.warp(block.timestamp + (seconds_ % (2 * WINDOW_S)));
    }

    /// @dev The latest of both kinds: what was forged is nowhere, what was not is the tip.
    function requireHonest() external view {
        uint256 count = forged.length;
        for (uint256 i = count > 10 ? count - 10 : 0; i < count; i++) {
            assertStatus(forged[i], ISettlementTypes.RecordStatus.Unknown);
        }
        if (honest.length == 0) return;
        ISettlementTypes.Tip memory tip = ledger.tip(REGION);
        vm.assertEq(tip.interval, honest[honest.length - 1].interval);
        vm.assertEq(tip.root, honest[honest.length - 1].root);
        vm.assertEq(tip.cumulativeCreditWh, 100 * honest.length);
    }

    /// @dev Gives the settlement a content that no other has, and remembers it.
    function forge(ISettlementTypes.Settlement memory settlement) private returns (bytes32) {
        settlement.dataHash = bytes32(++forgeries);
        forged.push(settlement);
        return ledger.digest(settlement);
    }

    function refuse(
        ISettlementTypes.Settlement memory settlement,
        bytes memory signatures,
        string memory who
    ) private {
        bool done = false;
        try ledger.post(signatures, alone(settlement)) {
            done = true;
        } catch {}
        vm.assertFalse(done, who);
    }

    /// @dev Two members and one of the others, in the order of their addresses.
    function withStranger(bytes32 digest, uint256 which) private view returns (bytes memory signatures) {
        uint256 other = (first + 5 + (which % (POOL - 5))) % POOL;
        uint256 members = 0;
        for (uint256 i = 0; i < POOL; i++) {
            bool isMember = i >= first && i < first + 5;
            if (isMember && members == THRESHOLD - 1) continue;
            if (isMember) members++;
            if (isMember || i == other) signatures = bytes.concat(signatures, signatureBy(pool[i], digest));
        }
    }

    function fromPool(uint256 from, bytes32 digest) private view returns (bytes memory signatures) {
        for (uint256 i = from; i < from + THRESHOLD; i++) {
            signatures = bytes.concat(signatures, signatureBy(pool[i], digest));
        }
    }

    function membersFrom(uint256 from) private view returns (address[] memory members) {
        members = new address[](5);
        for (uint256 i = 0; i < 5; i++) members[i] = vm.addr(pool[from + i]);
    }

    function takeKeys() private {
        delete keys;
        for (uint256 i = 0; i < 5; i++) keys.push(pool[first + i]);
    }

    function insert(uint256 key) private {
        pool.push(key);
        for (uint256 i = pool.length - 1; i > 0 && vm.addr(pool[i]) < vm.addr(pool[i - 1]); i--) {
            (pool[i], pool[i - 1]) = (pool[i - 1], pool[i]);
        }
    }
}

contract EpochInvariantsTest is WindowFixture {
    EpochWorld internal world;

    function setUp() public {
        world = new EpochWorld();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(world);
    }

    function invariant_OnlyKMembersOfTheCurrentSetMakeARecord() public view {
        world.requireHonest();
    }
}
