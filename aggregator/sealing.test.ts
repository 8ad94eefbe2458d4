import { sealingContract } from "./sealing-contract-suite.ts";

sealingContract("jobs on PostgreSQL");
