// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {IClaims} from "../src/IClaims.sol";
import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {SumTree} from "./SumTree.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice Cheat codes that look into the contract's storage.
interface StorageVm {
    function load(address target, bytes32 slot) external view returns (bytes32);
    function store(address target, bytes32 slot, bytes32 value) external;
}

/// @notice What is refused wherever it is tried: every bit of a claim, every node in a leaf's place, and the errors
/// that no honest client meets.
contract RefusalsTest is WindowTest {
    using SumTree for SumTree.Tree;

    function test_EveryBitOfAClaimCounts() public {
        (ISettlementTypes.Record memory record, ISettlementTypes.Leaf[] memory leaves) = mature(6);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).proof(3);
        refuseEveryFlippedBit(abi.encodeCall(IClaims.claim, (REGION, record, leaves[3], proof)));
    }

    function test_EveryBitOfABatchCounts() public {
        (ISettlementTypes.Record memory record, ISettlementTypes.Leaf[] memory leaves) = mature(6);
        uint256[] memory indices = new uint256[](2);
        (indices[0], indices[1]) = (1, 4);
        ISettlementTypes.Leaf[] memory pair = new ISettlementTypes.Leaf[](2);
        (pair[0], pair[1]) = (leaves[1], leaves[4]);
        ISettlementTypes.Node[] memory proof = SumTree.build(leaves).multiproof(indices);
        refuseEveryFlippedBit(abi.encodeCall(IClaims.claimBatch, (REGION, record, pair, proof)));
    }

    function test_ABatchThatMintsNothingSaysNothing() public {
        (ISettlementTypes.Record memory record, ISettlementTypes.Leaf[] memory leaves) = mature(6);
        ledger.claimBatch(REGION, record, leaves, new ISettlementTypes.Node[](0));
        vm.recordLogs();
        ledger.claimBatch(REGION, record, leaves, new ISettlementTypes.Node[](0));
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    /// @dev The authorities even sign the width of the node's level as the number of leaves, so that the rest of a
    /// node's path has the length of a leaf's; and the leaf has the node's sum, and of its hash what it can hold.
    function testFuzz_NoNodePassesForALeaf(uint256 seed, uint256 count, uint256 level, uint256 place) public {
        count = 2 + (count % 23);
        ISettlementTypes.Leaf[] memory leaves = leavesOf(creditsFrom(seed, count));
        SumTree.Tree memory tree = SumTree.build(leaves);
        level = 1 + (level % (tree.levels.length - 1));
        uint256 width = tree.levels[level].length;
        place %= width;
        ISettlementTypes.Node memory node = tree.levels[level][place];
        ISettlementTypes.Settlement memory settlement = settlementOf(REGION, 1, leaves);
        settlement.leafCount = uint32(width);
        post(settlement, signaturesOf(settlement, THRESHOLD));
        ISettlementTypes.Leaf[] memory forged = new ISettlementTypes.Leaf[](1);
        forged[0] = ISettlementTypes.Leaf(
            uint32(place),
            address(bytes20(node.hash << (seed % 97))),
            node.sumWh,
            uint64(uint256(node.hash))
        );
        ISettlementTypes.Node[] memory path = pathFrom(tree, level, place);
        ISettlementTypes.Record memory record = recordOf(settlement);
        vm.assertFalse(ledger.verify(REGION, record, forged[0], path), "a node as a leaf");
        vm.warp(block.timestamp + WINDOW_S);
        vm.expectRevert(IClaims.InvalidProof.selector);
        ledger.claimBatch(REGION, record, forged, path);
    }

    /// @dev Each signature has a twin with the other s, which recovers the same signer. Posts have a check of their own.
    function test_AMalleatedSignatureCountsNowhere() public {
        ISettlementTypes.Settlement memory settlement = postNext(REGION);
        ISettlementTypes.Record memory parent;
        bytes memory refusal = abi.encodeWithSelector(IAuthoritySet.InvalidSignature.selector, uint256(0));
        bytes memory signatures = malleated(3, 5, ledger.vetoDigest(settlement));
        vm.expectRevert(refusal);
        ledger.veto(settlement, parent, signatures);

        ISettlementTypes.Rotation memory rotation = ISettlementTypes.Rotation(
            1,
            THRESHOLD,
            VETO_THRESHOLD,
            authorities()
        );
        signatures = malleated(0, THRESHOLD, ledger.rotationDigest(rotation));
        vm.expectRevert(refusal);
        ledger.proposeRotation(rotation, signatures);

        ISettlementTypes.Settlement memory other = postNext(OTHER_REGION);
        (other.region, other.dataHash) = (REGION, 0);
        signatures = malleated(0, 1, ledger.digest(settlement));
        bytes memory honest = signaturesFrom(0, 1, ledger.digest(other));
        vm.expectRevert(refusal);
        ledger.reportEquivocation(settlement, signatures, other, honest);
    }

    function test_TheZeroAddressLetsNobodySpend() public {
        vm.expectRevert(abi.encodeWithSelector(ICreditToken.ERC20InvalidApprover.selector, address(0)));
        ledger.transferFrom(address(0), address(this), 0);
    }

    function test_APermitEndsWithItsDeadline() public {
        uint256 deadline = block.timestamp;
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(ICreditToken.ERC2612ExpiredSignature.selector, deadline));
        ledger.permit(vm.addr(1), address(this), 1, deadline, 27, bytes32(0), bytes32(0));
    }

    /// @dev The round has 16 bits: one more would begin the first round again, whose signatures are known.
    function test_TheLastRoundCannotBeVetoed() public {
        StorageVm storageVm = StorageVm(address(vm));
        ISettlementTypes.Settlement memory parent = postNext(REGION);
        vm.warp(block.timestamp + WINDOW_S);
        bytes32 tipSlot = slotOfTip(storageVm, parent.root);
        uint256 word = uint256(storageVm.load(address(ledger), tipSlot));
        storageVm.store(address(ledger), tipSlot, bytes32(word | (uint256(type(uint16).max) << 200)));
        ISettlementTypes.Settlement memory last = postNext(REGION);
        vm.assertEq(last.round, type(uint16).max);
        refuseVeto(last, parent, abi.encodeWithSignature("Panic(uint256)", 0x11));
    }

    /// @dev The twins of the signatures by the authorities from `first` to before `end`.
    function malleated(
        uint256 first,
        uint256 end,
        bytes32 digest
    ) private view returns (bytes memory signatures) {
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        for (uint256 i = first; i < end; i++) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[i], digest);
            signatures = bytes.concat(
                signatures,
                r,
                bytes32(order - uint256(s)),
                bytes1(v == 27 ? uint8(28) : uint8(27))
            );
        }
    }

    function mature(
        uint256 count
    ) private returns (ISettlementTypes.Record memory record, ISettlementTypes.Leaf[] memory leaves) {
        leaves = leavesOf(creditsFrom(1, count));
        record = postLeaves(REGION, 1, leaves);
        vm.warp(block.timestamp + WINDOW_S);
    }

    function refuseEveryFlippedBit(bytes memory data) private {
        for (uint256 bit = 0; bit < data.length * 8; bit++) {
            data[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
            bool accepted = accepts(data);
            // The selector's bits may name another function, but none that mints.
            vm.assertFalse(accepted && ledger.totalSupply() > 0, "an altered claim mints");
            vm.assertFalse(accepted && bit >= 32, "an altered claim");
            data[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        }
        vm.assertTrue(accepts(data), "the honest claim");
        vm.assertTrue(ledger.totalSupply() > 0, "the honest claim mints");
    }

    /// @dev Answers are left where they are: thousands of them would fill the memory.
    function accepts(bytes memory data) private returns (bool accepted) {
        address target = address(ledger);
        assembly ("memory-safe") {
            accepted := call(gas(), target, 0, add(data, 32), mload(data), 0, 0)
        }
    }

    /// @dev The siblings of a node of the level, from there upwards. They lead from it to the root.
    function pathFrom(
        SumTree.Tree memory tree,
        uint256 level,
        uint256 place
    ) private pure returns (ISettlementTypes.Node[] memory path) {
        path = new ISettlementTypes.Node[](32);
        uint256 length = 0;
        bytes32 hash = tree.levels[level][place].hash;
        for (; level + 1 < tree.levels.length; level++) {
            ISettlementTypes.Node[] memory nodes = tree.levels[level];
            uint256 left = place & ~uint256(1);
            if (left + 1 < nodes.length) {
                path[length++] = nodes[place ^ 1];
                (bytes32 first, bytes32 second) = place == left
                    ? (hash, nodes[left + 1].hash)
                    : (nodes[left].hash, hash);
                hash = keccak256(
                    abi.encodePacked(hex"01", first, second, nodes[left].sumWh, nodes[left + 1].sumWh)
                );
            }
            place /= 2;
        }
        vm.assertEq(hash, tree.root().hash);
        assembly ("memory-safe") {
            mstore(path, length)
        }
    }

    /// @dev Found by the root, which lies behind it.
    function slotOfTip(StorageVm storageVm, bytes32 root) private view returns (bytes32) {
        for (uint256 slot = 0; slot < 64; slot++) {
            uint256 tip = uint256(keccak256(abi.encode(uint256(REGION), slot)));
            if (storageVm.load(address(ledger), bytes32(tip + 1)) == root) return bytes32(tip);
        }
        revert("no tip");
    }
}
