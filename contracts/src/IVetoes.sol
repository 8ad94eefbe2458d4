// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ISettlementTypes} from "./ISettlementTypes.sol";

/// @title Vetoes against pending records, and evidence of equivocation
interface IVetoes is ISettlementTypes {}
