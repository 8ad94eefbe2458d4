// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {CreditToken} from "./CreditToken.sol";
import {ICreditToken} from "./ICreditToken.sol";
import {ISettlement} from "./ISettlement.sol";
import {MerkleSumProof} from "./MerkleSumProof.sol";

/// @title The settlement ledger of Gridroot and its credit token in one contract
/// @dev Storage that a transaction touches: a post writes the region's two tip slots and one ring slot, and reads
/// its terms, the set's slot and one slot per signer; a claim reads one ring slot and writes the region's terms
/// and the account.
contract Settlement is ISettlement, CreditToken {
    uint256 private constant MAX_AUTHORITIES = 32;
    uint256 private constant MAX_REGIONS = 256;
    uint256 private constant RING_SIZE = 256;
    uint256 private constant SIGNATURE_LENGTH = 65;
    /// @dev Half the order of secp256k1: of the two values of s that verify only the lower one counts.
    uint256 private constant MAX_LOW_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    bytes32 private constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root,uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash,uint32 authoritySetEpoch)"
    );
    bytes32 private constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );

    struct Region {
        // Slot 0: where the next settlement continues.
        uint64 interval;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        uint32 round;
        // Slot 1.
        bytes32 root;
        // Slot 2: the terms, of which only mintedWh changes. A cap of 0 marks a region that is not registered.
        uint64 capWh;
        uint64 startInterval;
        uint64 mintedWh;
        // Slot 3.
        string name;
        // A record lies at (interval / intervalLengthS) % 256: validAt u48 | 26 bytes of its hash.
        bytes32[RING_SIZE] ring;
    }

    struct AuthoritySet {
        uint32 epoch;
        uint8 threshold;
        address[] members;
    }

    address public immutable owner;
    uint64 public immutable intervalLengthS;
    uint256 private immutable _deploymentChainId;
    bytes32 private immutable _deploymentDomainSeparator;

    mapping(uint32 region => Region) private _regions;
    uint32[] private _regionNumbers;
    mapping(bytes32 nameHash => bool) private _nameTaken;
    AuthoritySet private _authoritySet;
    /// @dev The latest epoch whose set the address is a member of.
    mapping(address authority => uint32 epoch) private _memberOfEpoch;
    /// @dev What accounts were minted outside their home region.
    mapping(address account => mapping(uint32 region => uint64)) private _mintedElsewhereWh;

    /// @param authorities Strictly ascending; `threshold` of them must sign. They are epoch 1.
    constructor(address owner_, uint64 intervalLengthS_, uint8 threshold, address[] memory authorities) {
        if (owner_ == address(0) || intervalLengthS_ == 0) revert InvalidDeployment();
        if (threshold == 0 || threshold > authorities.length) revert InvalidDeployment();
        owner = owner_;
        intervalLengthS = intervalLengthS_;
        _deploymentChainId = block.chainid;
        _deploymentDomainSeparator = _domainSeparator();
        _setAuthorities(1, threshold, authorities);
    }

    /// @inheritdoc ISettlement
    function registerRegion(
        uint32 region,
        string calldata regionName,
        uint64 capWh,
        uint64 startInterval
    ) external {
        if (msg.sender != owner) revert NotOwner();
        uint256 nameLength = bytes(regionName).length;
        if (region == 0 || capWh == 0 || nameLength == 0 || nameLength > 31) revert InvalidRegion();
        if (startInterval % intervalLengthS != 0 || _regionNumbers.length == MAX_REGIONS)
            revert InvalidRegion();
        bytes32 nameHash = keccak256(bytes(regionName));
        Region storage stored = _regions[region];
        if (stored.capWh != 0 || _nameTaken[nameHash]) revert RegionExists(region);

        _nameTaken[nameHash] = true;
        _regionNumbers.push(region);
        stored.name = regionName;
        stored.capWh = capWh;
        stored.startInterval = startInterval;
        emit RegionRegistered(region, regionName, capWh, startInterval);
    }

    /// @inheritdoc ISettlement
    function post(Settlement calldata settlement, bytes calldata signatures) external {
        Region storage region = _registered(settlement.region);
        bytes32 content = _contentHash(settlement);
        bytes26 commitment = _commitment(_recordOf(settlement, content));
        bytes32 slot = region.ring[_ringIndex(settlement.interval)];
        if (_committed(slot) == commitment) revert AlreadySettled(settlement.region, settlement.interval);

        _requireContinuation(region, settlement);
        _requireSignatures(settlement, signatures);

        region.interval = settlement.interval;
        region.cumulativeCreditWh = settlement.cumulativeCreditWh;
        region.cumulativeDebitWh = settlement.cumulativeDebitWh;
        region.root = settlement.root;
        region.ring[_ringIndex(settlement.interval)] = _ringSlot(block.timestamp, commitment);
        emit Settled(
            settlement.region,
            settlement.interval,
            settlement.round,
            settlement.root,
            content,
            settlement.intervalCreditWh,
            settlement.cumulativeCreditWh,
            settlement.cumulativeDebitWh,
            settlement.leafCount,
            settlement.dataHash
        );
    }

    /// @inheritdoc ISettlement
    function claim(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external {
        if (!_isRetained(region, record)) revert UnknownRecord();
        if (!MerkleSumProof.holds(record, leaf, proof)) revert InvalidProof();
        uint256 amountWh = _mint(region, record.interval, leaf);
        if (amountWh > 0) _countMinted(region, record, amountWh);
    }

    /// @inheritdoc ISettlement
    function claimBatch(
        uint32 region,
        Record calldata record,
        Leaf[] calldata leaves,
        Node[] calldata proof
    ) external {
        if (!_isRetained(region, record)) revert UnknownRecord();
        if (!MerkleSumProof.holdsForAll(record, leaves, proof)) revert InvalidProof();
        uint256 amountWh = 0;
        for (uint256 i = 0; i < leaves.length; i++) amountWh += _mint(region, record.interval, leaves[i]);
        if (amountWh > 0) _countMinted(region, record, amountWh);
    }

    /// @inheritdoc ISettlement
    function verify(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external view returns (bool) {
        return _isRetained(region, record) && MerkleSumProof.holds(record, leaf, proof);
    }

    /// @inheritdoc ISettlement
    function tip(uint32 region) external view returns (Tip memory) {
        Region storage stored = _registered(region);
        return
            Tip({
                round: stored.round,
                interval: stored.interval,
                root: stored.root,
                cumulativeCreditWh: stored.cumulativeCreditWh,
                cumulativeDebitWh: stored.cumulativeDebitWh,
                recordSlot: stored.interval == 0 ? bytes32(0) : stored.ring[_ringIndex(stored.interval)]
            });
    }

    /// @inheritdoc ISettlement
    function regionInfo(uint32 region) external view returns (RegionInfo memory) {
        Region storage stored = _registered(region);
        return
            RegionInfo({
                name: stored.name,
                capWh: stored.capWh,
                startInterval: stored.startInterval,
                mintedWh: stored.mintedWh
            });
    }

    /// @inheritdoc ISettlement
    function regions() external view returns (uint32[] memory) {
        return _regionNumbers;
    }

    /// @inheritdoc ISettlement
    function isAccepted(uint32 region, Record calldata record) external view returns (bool) {
        return _isRetained(region, record);
    }

    /// @inheritdoc ISettlement
    function recordSlot(uint32 region, uint64 interval) external view returns (bytes32) {
        return _regions[region].ring[_ringIndex(interval)];
    }

    /// @inheritdoc ISettlement
    function mintedWh(uint32 region, address account) external view returns (uint64) {
        Account storage holder = _accounts[account];
        return holder.homeRegion == region ? holder.homeMintedWh : _mintedElsewhereWh[account][region];
    }

    /// @inheritdoc ISettlement
    function authoritySet() external view returns (uint32 epoch, uint8 threshold, address[] memory members) {
        return (_authoritySet.epoch, _authoritySet.threshold, _authoritySet.members);
    }

    /// @inheritdoc ISettlement
    function contentHash(Settlement calldata settlement) external pure returns (bytes32) {
        return _contentHash(settlement);
    }

    /// @inheritdoc ISettlement
    function digest(Settlement calldata settlement) external view returns (bytes32) {
        return _digest(settlement);
    }

    /// @inheritdoc ICreditToken
    /// @dev The sum over at most 256 regions; a running total would cost every claim a slot.
    function totalSupply() external view returns (uint256 supplyWh) {
        for (uint256 i = 0; i < _regionNumbers.length; i++) supplyWh += _regions[_regionNumbers[i]].mintedWh;
    }

    function _setAuthorities(uint32 epoch, uint8 threshold, address[] memory members) private {
        if (members.length > MAX_AUTHORITIES) revert InvalidAuthorities();
        address previous = address(0);
        for (uint256 i = 0; i < members.length; i++) {
            if (members[i] <= previous) revert InvalidAuthorities();
            previous = members[i];
            _memberOfEpoch[previous] = epoch;
        }
        _authoritySet = AuthoritySet({epoch: epoch, threshold: threshold, members: members});
        emit AuthoritySetChanged(epoch, threshold, members);
    }

    /// @dev prevInterval and prevRoot must both be the tip's: a night without credit repeats the root, so the
    /// root alone would let a stranger post i + 2 before i + 1.
    function _requireContinuation(Region storage region, Settlement calldata settlement) private view {
        uint64 parent = region.interval;
        uint64 interval = settlement.interval;
        if (settlement.round != region.round) revert WrongRound(region.round);
        if (settlement.prevInterval != parent || settlement.prevRoot != region.root) {
            revert WrongParent(parent, region.root);
        }
        uint64 from = parent == 0 ? region.startInterval : parent;
        if (interval <= from || interval % intervalLengthS != 0 || interval > block.timestamp) {
            revert InvalidInterval(interval);
        }
        if (settlement.leafCount == 0) revert EmptyTree();
        // In 256 bits, so that neither the sum nor the product can wrap.
        uint256 creditWh = uint256(region.cumulativeCreditWh) + settlement.intervalCreditWh;
        if (settlement.cumulativeCreditWh != creditWh) revert InvalidTotals();
        if (settlement.cumulativeDebitWh < region.cumulativeDebitWh) revert InvalidTotals();
        uint256 allowedWh = uint256(region.capWh) * ((interval - from) / intervalLengthS);
        if (settlement.intervalCreditWh > allowedWh) revert CapExceeded(allowedWh);
    }

    /// @dev Strictly ascending signers are distinct, so at most 32 signatures are ever checked.
    function _requireSignatures(Settlement calldata settlement, bytes calldata signatures) private view {
        uint32 epoch = _authoritySet.epoch;
        if (settlement.authoritySetEpoch != epoch) revert WrongEpoch(epoch);
        uint256 count = signatures.length / SIGNATURE_LENGTH;
        if (count < _authoritySet.threshold || signatures.length % SIGNATURE_LENGTH != 0) {
            revert TooFewSignatures();
        }
        bytes32 signed = _digest(settlement);
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            bytes calldata signature = signatures[i * SIGNATURE_LENGTH:(i + 1) * SIGNATURE_LENGTH];
            bytes32 s = bytes32(signature[32:64]);
            // A failed recovery gives address 0, which is never above the one before.
            address signer = ecrecover(signed, uint8(signature[64]), bytes32(signature[0:32]), s);
            if (signer <= previous || uint256(s) > MAX_LOW_S || _memberOfEpoch[signer] != epoch) {
                revert InvalidSignature(i);
            }
            previous = signer;
        }
    }

    /// @dev Returns what was minted: 0 if everything was before, which never reverts, so that a claim made by
    /// somebody else first cannot spoil a batch.
    function _mint(uint32 region, uint64 interval, Leaf calldata leaf) private returns (uint256) {
        address account = leaf.account;
        if (account == address(0)) revert ZeroAccount();
        Account memory holder = _accounts[account];
        bool atHome = holder.homeRegion == region || holder.homeRegion == 0;
        uint256 before = atHome ? holder.homeMintedWh : _mintedElsewhereWh[account][region];
        if (leaf.creditWh <= before + leaf.debitWh) return 0;

        uint64 mintedNow = leaf.creditWh - leaf.debitWh;
        uint64 amountWh = uint64(mintedNow - before);
        holder.balanceWh += amountWh;
        if (atHome) {
            holder.homeRegion = region;
            holder.homeMintedWh = mintedNow;
        } else {
            _mintedElsewhereWh[account][region] = mintedNow;
        }
        _accounts[account] = holder;
        emit Transfer(address(0), account, amountWh);
        emit Claimed(region, account, interval, amountWh, mintedNow);
        return amountWh;
    }

    /// @dev The record's total bounds what may be minted. Where claims from later records were made before, the
    /// tip's total does, or else those claims would block this one.
    function _countMinted(uint32 region, Record calldata record, uint256 amountWh) private {
        Region storage stored = _regions[region];
        uint256 minted = stored.mintedWh + amountWh;
        if (minted > record.cumulativeCreditWh && minted > stored.cumulativeCreditWh)
            revert MintedAboveTotal();
        stored.mintedWh = uint64(minted);
    }

    function _registered(uint32 region) private view returns (Region storage stored) {
        stored = _regions[region];
        if (stored.capWh == 0) revert UnknownRegion(region);
    }

    function _isRetained(uint32 region, Record calldata record) private view returns (bool) {
        return _committed(_regions[region].ring[_ringIndex(record.interval)]) == _commitment(record);
    }

    function _ringIndex(uint64 interval) private view returns (uint256) {
        return (interval / intervalLengthS) % RING_SIZE;
    }

    function _ringSlot(uint256 validAt, bytes26 commitment) private pure returns (bytes32) {
        return bytes32((validAt << 208) | uint208(commitment));
    }

    function _committed(bytes32 slot) private pure returns (bytes26) {
        return bytes26(slot << 48);
    }

    function _commitment(Record memory record) private pure returns (bytes26) {
        return bytes26(keccak256(abi.encode(record)));
    }

    function _recordOf(Settlement calldata settlement, bytes32 content) private pure returns (Record memory) {
        return
            Record({
                contentHash: content,
                root: settlement.root,
                interval: settlement.interval,
                cumulativeCreditWh: settlement.cumulativeCreditWh,
                cumulativeDebitWh: settlement.cumulativeDebitWh,
                leafCount: settlement.leafCount
            });
    }

    function _contentHash(Settlement calldata settlement) private pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    settlement.region,
                    settlement.round,
                    settlement.interval,
                    settlement.prevInterval,
                    settlement.prevRoot,
                    settlement.root,
                    settlement.intervalCreditWh,
                    settlement.cumulativeCreditWh,
                    settlement.cumulativeDebitWh,
                    settlement.leafCount,
                    settlement.dataHash
                )
            );
    }

    function _digest(Settlement calldata settlement) private view returns (bytes32) {
        bytes32 domain =
            block.chainid == _deploymentChainId ? _deploymentDomainSeparator : _domainSeparator();
        bytes32 message = keccak256(abi.encode(SETTLEMENT_TYPEHASH, settlement));
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }

    function _domainSeparator() private view returns (bytes32) {
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
