// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {AuthoritySet} from "./AuthoritySet.sol";
import {Claims} from "./Claims.sol";
import {Governance} from "./Governance.sol";
import {Records} from "./Records.sol";

/// @title The settlement ledger of Gridroot and its credit token in one contract
/// @dev Nothing of it can be replaced. Storage is laid out in the order of the contracts it is made of; each says in
/// its header what it owns.
contract Settlement is Governance, Claims {
    /// @param manager The AccessManager that says who may call which function of governance.
    /// @param members Strictly ascending; `threshold` of them sign, `vetoThreshold` veto. They are epoch 1.
    constructor(
        address manager,
        uint64 intervalLengthS_,
        uint64 windowS_,
        uint8 threshold,
        uint8 vetoThreshold,
        address[] memory members
    )
        Records(intervalLengthS_, windowS_)
        AuthoritySet(threshold, vetoThreshold, members)
        AccessManaged(manager)
    {
        if (manager.code.length == 0) revert InvalidDeployment();
    }
}
