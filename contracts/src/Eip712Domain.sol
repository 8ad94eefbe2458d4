// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title The EIP-712 domain that settlements, vetoes, rotations and permits are signed for
/// @dev Owns no storage. One domain for all messages: their types tell them apart.
abstract contract Eip712Domain {
    bytes32 private constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );

    uint256 private immutable _deploymentChainId;
    bytes32 private immutable _deploymentDomainSeparator;

    constructor() {
        _deploymentChainId = block.chainid;
        _deploymentDomainSeparator = _computeDomainSeparator();
    }

    /// @dev Computed anew where the chain id is no longer the deployment's, so that a fork of the chain does not
    /// take over signatures.
    function _domainSeparator() internal view returns (bytes32) {
        return block.chainid == _deploymentChainId ? _deploymentDomainSeparator : _computeDomainSeparator();
    }

    /// @dev keccak256(0x1901 | domain separator | struct hash).
    function _typedDigest(bytes32 structHash) internal view returns (bytes32 digest) {
        bytes32 separator = _domainSeparator();
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, shl(240, 0x1901))
            mstore(add(words, 0x02), separator)
            mstore(add(words, 0x22), structHash)
            digest := keccak256(words, 0x42)
        }
    }

    function _computeDomainSeparator() private view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    DOMAIN_TYPEHASH,
                    keccak256("Gridroot Settlement"),
                    keccak256("1"),
                    block.chainid,
                    address(this)
                )
            );
    }
}
