// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Gridroot settlement: what the authorities attest, what the contract accepts, what a customer claims
/// @notice Every interval a region's authorities attest one Merkle sum tree over the cumulative credits of its
/// accounts. The contract chains the attested roots per region, and mints each account the part of its proven
/// credit that it was not minted yet. Energy is in Wh everywhere.
interface ISettlement {
    /// @notice The EIP-712 message the authorities sign. All but `authoritySetEpoch` is its content.
    /// @param region The number under which the region was registered, never 0.
    /// @param round Counts the times records of the region were dropped; 0 at first.
    /// @param interval The aligned end of the batch's last interval, unix seconds, at most `block.timestamp`.
    /// @param prevInterval The interval of the record before, 0 for the region's first.
    /// @param prevRoot The root of the record before, 0 for the region's first.
    /// @param root The root of the Merkle sum tree over the accounts' cumulative credits.
    /// @param intervalCreditWh What `cumulativeCreditWh` rose by since the record before.
    /// @param cumulativeCreditWh The sum of all leaves' credits; the root's sum.
    /// @param cumulativeDebitWh The sum of all leaves' debits.
    /// @param leafCount How many accounts the tree has, at least 1.
    /// @param dataHash keccak256 of the evidence file before compression.
    /// @param authoritySetEpoch The epoch of the set that signed.
    struct Settlement {
        uint32 region;
        uint32 round;
        uint64 interval;
        uint64 prevInterval;
        bytes32 prevRoot;
        bytes32 root;
        uint64 intervalCreditWh;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        uint32 leafCount;
        bytes32 dataHash;
        uint32 authoritySetEpoch;
    }

    /// @notice What a ring slot binds of an accepted settlement; it travels in calldata.
    /// @param contentHash `contentHash(settlement)`, which binds region and round.
    struct Record {
        bytes32 contentHash;
        bytes32 root;
        uint64 interval;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        uint32 leafCount;
    }

    /// @notice One account's totals in a record. Both only rise from record to record.
    /// @param index The account's place in the tree, from 0.
    /// @param debitWh Downward corrections only, never imported energy.
    struct Leaf {
        uint32 index;
        address account;
        uint64 creditWh;
        uint64 debitWh;
    }

    /// @notice A node of a proof and the sum of the credits below it.
    struct Node {
        bytes32 hash;
        uint64 sumWh;
    }

    /// @notice The state of a region that the next settlement must continue.
    /// @param recordSlot The ring slot of `interval`: validAt in the upper 48 bits, then 26 bytes of the
    /// record's hash; 0 before the region's first record.
    struct Tip {
        uint32 round;
        uint64 interval;
        bytes32 root;
        uint64 cumulativeCreditWh;
        uint64 cumulativeDebitWh;
        bytes32 recordSlot;
    }

    /// @notice What was registered for a region, and what its accounts were minted so far.
    struct RegionInfo {
        string name;
        uint64 capWh;
        uint64 startInterval;
        uint64 mintedWh;
    }

    /// @notice A region may now be settled.
    event RegionRegistered(uint32 indexed region, string name, uint64 capWh, uint64 startInterval);

    /// @notice A set of authorities took effect: `threshold` of `members` (ascending) must sign.
    event AuthoritySetChanged(uint32 indexed epoch, uint8 threshold, address[] members);

    /// @notice A settlement was accepted. Once per (region, round, interval).
    event Settled(
        uint32 indexed region,
        uint64 indexed interval,
        uint32 round,
        bytes32 root,
        bytes32 contentHash,
        uint64 intervalCreditWh,
        uint64 cumulativeCreditWh,
        uint64 cumulativeDebitWh,
        uint32 leafCount,
        bytes32 dataHash
    );

    /// @notice `amountWh`, the part of the account's proven credit not minted before, was minted to it.
    /// Never emitted with 0. `mintedWh` is what the account was minted in this region so far.
    event Claimed(
        uint32 indexed region,
        address indexed account,
        uint64 indexed interval,
        uint64 amountWh,
        uint64 mintedWh
    );

    /// @notice Only the owner may do this.
    error NotOwner();
    /// @notice The deployment has an interval length of 0, no owner, or a threshold of 0 or above the members.
    error InvalidDeployment();
    /// @notice Authorities must be 1 to 32 non-zero addresses in strictly ascending order.
    error InvalidAuthorities();
    /// @notice Number 0, a cap of 0, a start off the interval grid, a name not of 1 to 31 bytes, or one region
    /// too many.
    error InvalidRegion();
    /// @notice The region's number or its name is taken.
    error RegionExists(uint32 region);
    /// @notice No region has this number.
    error UnknownRegion(uint32 region);
    /// @notice Exactly this content was accepted before: nothing is left to do.
    error AlreadySettled(uint32 region, uint64 interval);
    /// @notice The settlement belongs to another round; `round` is the current one.
    error WrongRound(uint32 round);
    /// @notice The settlement does not continue the tip, which is at `interval` with `root`.
    error WrongParent(uint64 interval, bytes32 root);
    /// @notice Off the grid, not after the tip (or the region's start), or later than `block.timestamp`.
    error InvalidInterval(uint64 interval);
    /// @notice A total fell, or `intervalCreditWh` is not the difference of the cumulative credits.
    error InvalidTotals();
    /// @notice More credit than the region's cap allows for the intervals elapsed.
    error CapExceeded(uint256 allowedWh);
    /// @notice A tree has at least one leaf.
    error EmptyTree();
    /// @notice Signed for another set of authorities; `epoch` is the current one.
    error WrongEpoch(uint32 epoch);
    /// @notice Fewer signatures than the threshold, or not a whole number of 65-byte signatures.
    error TooFewSignatures();
    /// @notice Signature number `position` is malleable, malformed, not of an authority, or its signer does not
    /// come strictly after the one before.
    error InvalidSignature(uint256 position);
    /// @notice The record is not retained for this region.
    error UnknownRecord();
    /// @notice Leaves and proof nodes do not give the record's root and sum, or their number is wrong.
    error InvalidProof();
    /// @notice More would be minted in the region than its authorities attested in all.
    error MintedAboveTotal();
    /// @notice Credit is not minted to the zero address.
    error ZeroAccount();

    /// @notice Registers a region. Only the owner.
    /// @param capWh The most credit one interval of the region can add; it scales with elapsed intervals.
    /// @param startInterval The aligned instant from which the region's energy counts. The first settlement ends
    /// after it and is capped by the intervals from it.
    function registerRegion(uint32 region, string calldata name, uint64 capWh, uint64 startInterval) external;

    /// @notice Accepts a settlement that continues its region's tip. Anyone may relay.
    /// @param signatures At least `threshold` signatures `r | s | v` of 65 bytes over `digest(settlement)`, by
    /// authorities of the current epoch in strictly ascending order of their addresses.
    function post(Settlement calldata settlement, bytes calldata signatures) external;

    /// @notice Mints the leaf's account what of its proven credit was not minted yet; nothing if there is
    /// nothing. Anyone may claim for anyone: the credit goes to the leaf's account.
    /// @param proof The siblings from the leaf to the root; a lone last node of a level has none.
    function claim(uint32 region, Record calldata record, Leaf calldata leaf, Node[] calldata proof) external;

    /// @notice Claims for many leaves of one record. Neighbours in the tree share proof nodes.
    /// @param leaves At least one, strictly ascending by index.
    /// @param proof The siblings that are not computed from the leaves, level by level, left to right.
    function claimBatch(
        uint32 region,
        Record calldata record,
        Leaf[] calldata leaves,
        Node[] calldata proof
    ) external;

    /// @notice Whether the record is retained for the region and the proof leads from the leaf to its root and
    /// sum. Never reverts for a decodable argument.
    function verify(
        uint32 region,
        Record calldata record,
        Leaf calldata leaf,
        Node[] calldata proof
    ) external view returns (bool);

    /// @notice The state the region's next settlement must continue. Reverts for an unknown region.
    function tip(uint32 region) external view returns (Tip memory);

    /// @notice What was registered, and what was minted. Reverts for an unknown region.
    function regionInfo(uint32 region) external view returns (RegionInfo memory);

    /// @notice The numbers of all regions, in order of registration; at most 256.
    function regions() external view returns (uint32[] memory);

    /// @notice Whether the region retains exactly this record. The record's content hash binds its round.
    function isAccepted(uint32 region, Record calldata record) external view returns (bool);

    /// @notice The ring slot that `interval` maps to, whatever interval it holds.
    function recordSlot(uint32 region, uint64 interval) external view returns (bytes32);

    /// @notice What the account was minted from the region so far; it never falls.
    function mintedWh(uint32 region, address account) external view returns (uint64);

    /// @notice The current authorities, ascending, of which `threshold` must sign.
    function authoritySet() external view returns (uint32 epoch, uint8 threshold, address[] memory members);

    /// @notice The hash of everything in the settlement but `authoritySetEpoch`.
    function contentHash(Settlement calldata settlement) external pure returns (bytes32);

    /// @notice The EIP-712 digest that authorities sign.
    function digest(Settlement calldata settlement) external view returns (bytes32);

    /// @notice Who may register regions.
    function owner() external view returns (address);

    /// @notice The length of an interval in seconds; `interval` is a multiple of it.
    function intervalLengthS() external view returns (uint64);
}
