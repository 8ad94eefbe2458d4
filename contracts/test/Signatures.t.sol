// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAuthoritySet} from "../src/IAuthoritySet.sol";
import {ISettlement} from "../src/ISettlement.sol";
import {ISettlementTypes} from "../src/ISettlementTypes.sol";
import {IVetoes} from "../src/IVetoes.sol";
import {WindowTest} from "./WindowFixture.sol";

/// @notice Posts check signatures in assembly, vetoes in plain Solidity: both tell the same ones apart.
contract SignaturesTest is WindowTest {
    uint256 private constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint8 private constant COUNT = 2;

    ISettlementTypes.Settlement internal pending;
    ISettlementTypes.Settlement internal following;

    /// @dev As many sign as veto, and the third of five is suspended.
    function setUp() public override {
        super.setUp();
        ledger = deploy(LENGTH_S, WINDOW_S, COUNT, COUNT, authorities());
        ledger.registerRegion(REGION, "bangkok", CAP_WH, START);
        ledger.registerRegion(OTHER_REGION, "northern", CAP_WH, START);
        pending = next(REGION);
        post(pending, signaturesOf(pending, COUNT));
        following = next(OTHER_REGION);
        ISettlementTypes.Settlement memory other = following;
        bytes memory signature = signatureBy(keys[2], ledger.digest(other));
        other.dataHash = 0;
        ledger.reportEquivocation(following, signature, other, signatureBy(keys[2], ledger.digest(other)));
    }

    function testFuzz_PostsAndVetoesAcceptTheSameSignatures(uint256 seed) public {
        bytes memory toPost = some(seed, ledger.digest(following));
        bytes memory toVeto = some(seed, ledger.vetoDigest(pending));
        (bool posted, bytes memory postAnswer) = address(ledger).call(
            abi.encodeCall(ISettlement.post, (toPost, alone(following)))
        );
        (bool vetoed, bytes memory vetoAnswer) = address(ledger).call(
            abi.encodeCall(IVetoes.veto, (pending, recordOf(pending), toVeto))
        );
        vm.assertTrue(posted == vetoed, "one of the two refused");
        vm.assertTrue(posted == areGood(seed));
        if (posted) return;
        vm.assertEq(bytes32(bytes4(postAnswer)), bytes32(IAuthoritySet.InvalidSignature.selector));
        vm.assertEq(bytes32(bytes4(vetoAnswer)), bytes32(IAuthoritySet.InvalidSignature.selector));
    }

    function some(uint256 seed, bytes32 digest) private view returns (bytes memory signatures) {
        for (uint256 i = 0; i < COUNT; i++) {
            (uint256 signer, uint256 flaw) = choice(seed, i);
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer < 5 ? keys[signer] : 99, digest);
            if (flaw == 1) (v, s) = (v ^ 7, bytes32(CURVE_ORDER - uint256(s)));
            if (flaw == 2) v -= 27;
            if (flaw == 3) r = 0;
            signatures = bytes.concat(signatures, abi.encodePacked(r, s, v));
        }
    }

    /// @dev Members in ascending order, none suspended, without a flaw.
    function areGood(uint256 seed) private pure returns (bool) {
        (uint256 one, uint256 flaw) = choice(seed, 0);
        (uint256 two, uint256 flawOfTwo) = choice(seed, 1);
        return one < two && two < 5 && one != 2 && two != 2 && flaw % 4 == 0 && flawOfTwo % 4 == 0;
    }

    /// @dev A member or, as number 5, a stranger; and a flaw from 1 to 3, or none.
    function choice(uint256 seed, uint256 i) private pure returns (uint256 signer, uint256 flaw) {
        uint256 random = uint256(keccak256(abi.encode(seed, i)));
        signer = random % 6;
        flaw = (random >> 8) % 12;
        if (flaw > 3) flaw = 0;
    }
}
