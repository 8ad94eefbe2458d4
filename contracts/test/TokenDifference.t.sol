// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ICreditToken} from "../src/ICreditToken.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {ReferenceToken} from "./ReferenceToken.sol";
import {SettlementTest} from "./SettlementFixture.sol";
import {SumTree} from "./SumTree.sol";
import {Vm} from "./Vm.sol";

/// @notice The credit and OpenZeppelin's token, driven by the same random sequences: same answers and errors, same
/// transfers and approvals, same balances, allowances, nonces and supply after every step.
contract TokenDifferenceTest is SettlementTest {
    using SumTree for SumTree.Tree;

    uint256 private constant STEPS = 20;
    uint256 private constant ACTORS = 3;
    /// @dev ecrecover takes only the lower half in v; the upper half of s is the curve's order less s.
    uint256 private constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 private constant PERMIT_TYPEHASH = keccak256(
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    );

    /// @dev What a step leaves behind at one of the two.
    struct Outcome {
        bool done;
        bytes answer;
        bytes32 logs;
    }

    ReferenceToken private plainToken;
    uint256[ACTORS] private actorKeys;
    uint64[ACTORS] private creditsWh = [uint64(1000), 0, 77];
    bool[ACTORS] private claimed;
    ISettlementTypes.Leaf[] private leaves;
    ISettlementTypes.Record private record;

    function setUp() public override {
        super.setUp();
        plainToken = new ReferenceToken();
        for (uint32 i = 0; i < ACTORS; i++) {
            actorKeys[i] = 0xa11ce + i;
            leaves.push(ISettlementTypes.Leaf(i, vm.addr(actorKeys[i]), creditsWh[i], 0));
        }
        record = postLeaves(REGION, 1, leaves);
    }

    function testFuzz_TheCreditBehavesAsOpenZeppelinsToken(uint256 seed) public {
        for (uint256 i = 0; i < STEPS; i++) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            step(random);
            compareState();
        }
    }

    function step(uint256 random) private {
        uint256 kind = random % 12;
        uint256 actor = (random >> 8) % ACTORS;
        if (kind < 2) return claimAndMint(actor);
        uint256 value = valueFrom(random >> 64);
        address from = someone(random >> 16);
        address to = someone(random >> 24);
        bytes memory data;
        if (kind < 4) data = abi.encodeCall(ICreditToken.transfer, (to, value));
        else if (kind < 6) data = abi.encodeCall(ICreditToken.approve, (to, value));
        else if (kind < 8) data = abi.encodeCall(ICreditToken.transferFrom, (from, to, value));
        else if (kind == 8) data = abi.encodeCall(ICreditToken.retire, (value, "heating"));
        else return permit(random, actor, to, value);
        address sender = vm.addr(actorKeys[actor]);
        compare(call(address(ledger), sender, data), call(address(plainToken), sender, data));
    }

    function claimAndMint(uint256 actor) private {
        vm.recordLogs();
        ledger.claim(REGION, record, leaves[actor], SumTree.build(leaves).proof(actor));
        bytes32 logs = tokenLogs();
        if (!claimed[actor] && creditsWh[actor] > 0) plainToken.mint(leaves[actor].account, creditsWh[actor]);
        claimed[actor] = true;
        vm.assertEq(logs, tokenLogs());
    }

    /// @dev Valid permits, and each way in which one is not.
    function permit(uint256 random, uint256 actor, address spender, uint256 value) private {
        uint256 flaw = (random >> 32) % 8;
        uint256 deadline = flaw == 1 ? block.timestamp - 1 : block.timestamp + ((random >> 40) % 2);
        address owner = flaw == 2 ? someone(random >> 48) : vm.addr(actorKeys[actor]);
        uint256 nonce = ledger.nonces(vm.addr(actorKeys[actor])) + (flaw == 3 ? 1 : 0);
        bytes32 message = keccak256(abi.encode(PERMIT_TYPEHASH, owner, spender, value, nonce, deadline));
        Outcome memory ours = callPermit(
            address(ledger),
            flaw,
            actor,
            message,
            owner,
            spender,
            value,
            deadline
        );
        Outcome memory theirs = callPermit(
            address(plainToken),
            flaw,
            actor,
            message,
            owner,
            spender,
            value,
            deadline
        );
        // A signature that is nobody's has errors of its own there.
        bool malformed = flaw == 4 || flaw == 5;
        bytes memory refused = abi.encodeWithSelector(
            ICreditToken.ERC2612InvalidSigner.selector,
            address(0),
            owner
        );
        if (malformed) vm.assertEq(keccak256(ours.answer), keccak256(refused));
        if (malformed) (ours.answer, theirs.answer) = ("", "");
        // The domains differ, and so do the addresses that are recovered from what was not signed.
        if (flaw == 2 || flaw == 3) {
            (ours.answer, theirs.answer) = (
                bytes.concat(bytes4(ours.answer)),
                bytes.concat(bytes4(theirs.answer))
            );
        }
        compare(ours, theirs);
    }

    function callPermit(
        address token,
        uint256 flaw,
        uint256 actor,
        bytes32 message,
        address owner,
        address spender,
        uint256 value,
        uint256 deadline
    ) private returns (Outcome memory) {
        bytes32 domain = ICreditToken(token).DOMAIN_SEPARATOR();
        bytes32 signed = keccak256(abi.encodePacked(hex"1901", domain, message));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(actorKeys[actor], signed);
        if (flaw == 4) (v, s) = (v ^ 7, bytes32(CURVE_ORDER - uint256(s)));
        if (flaw == 5) v = 29;
        bytes memory data = abi.encodeCall(ICreditToken.permit, (owner, spender, value, deadline, v, r, s));
        return call(token, address(0xcafe), data);
    }

    function call(address token, address sender, bytes memory data) private returns (Outcome memory outcome) {
        vm.recordLogs();
        vm.prank(sender);
        (outcome.done, outcome.answer) = token.call(data);
        outcome.logs = tokenLogs();
    }

    /// @dev A hash of the transfers and approvals since the last recording.
    function tokenLogs() private returns (bytes32 hash) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            bytes32 signature = logs[i].topics[0];
            if (signature != ICreditToken.Transfer.selector && signature != ICreditToken.Approval.selector)
                continue;
            hash = keccak256(abi.encode(hash, logs[i].topics, logs[i].data));
        }
    }

    function compare(Outcome memory ours, Outcome memory theirs) private pure {
        vm.assertTrue(ours.done == theirs.done, "one of the two refused");
        vm.assertEq(keccak256(ours.answer), keccak256(theirs.answer));
        vm.assertEq(ours.logs, theirs.logs);
    }

    function compareState() private view {
        vm.assertEq(ledger.totalSupply(), plainToken.totalSupply(), "supply");
        uint256 sumWh = 0;
        for (uint256 i = 0; i <= ACTORS; i++) {
            address owner = someone(i);
            sumWh += ledger.balanceOf(owner);
            vm.assertEq(ledger.balanceOf(owner), plainToken.balanceOf(owner), "balance");
            vm.assertEq(ledger.nonces(owner), plainToken.nonces(owner), "nonce");
            for (uint256 j = 0; j <= ACTORS; j++) {
                address spender = someone(j);
                vm.assertEq(
                    ledger.allowance(owner, spender),
                    plainToken.allowance(owner, spender),
                    "allowance"
                );
            }
        }
        vm.assertEq(sumWh, ledger.totalSupply(), "balances add up");
    }

    /// @dev An actor, or the zero address.
    function someone(uint256 random) private view returns (address) {
        random %= ACTORS + 1;
        return random == ACTORS ? address(0) : vm.addr(actorKeys[random]);
    }

    /// @dev Values around those that matter.
    function valueFrom(uint256 random) private view returns (uint256) {
        uint256 kind = random % 8;
        if (kind == 0) return 0;
        if (kind == 1) return type(uint256).max - ((random >> 8) % 2);
        if (kind == 2) return uint256(1) << (90 + ((random >> 8) % 100));
        if (kind == 3) return ledger.balanceOf(someone(random >> 8)) + ((random >> 16) % 2);
        return (random >> 8) % 1100;
    }
}
