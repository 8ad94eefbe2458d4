-- The relayer's journal. A settlement is the way of one batch onto the chain, an attempt is one nonce of one sender,
-- and a transaction is one set of signed bytes that may use that nonce. The bytes are stored before they are sent.

create table settlement (
  region_id    integer not null,
  round        integer not null,
  interval_end bigint  not null,
  state        text    not null check (state in ('signed', 'broadcast', 'mined', 'final', 'reverted', 'settled-externally')),
  reason       text,                             -- the contract's error, decoded; null unless reverted
  changed_ms   bigint  not null,
  primary key (region_id, round, interval_end),
  foreign key (region_id, round, interval_end) references batch
);
-- What is under way or blocked; the finished majority stays out of it.
create index settlement_open on settlement (region_id, round, interval_end)
  where state not in ('final', 'settled-externally');

create table attempt (
  attempt_id   bigint  generated always as identity primary key,
  chain_id     bigint  not null,
  sender       bytea   not null check (length(sender) = 20),
  nonce        bigint  not null,
  contract     bytea   not null check (length(contract) = 20),
  state        text    not null check (state in ('signed', 'broadcast', 'mined', 'final', 'reverted', 'superseded')),
  -- The transaction that used the nonce, as last seen; null while none has.
  succeeded    boolean,
  mined_hash   bytea,
  block_number bigint,
  block_hash   bytea,
  gas_used     bigint,
  changed_ms   bigint  not null,
  unique (chain_id, sender, nonce),
  check (num_nulls(succeeded, mined_hash, block_number, block_hash, gas_used) in (0, 5)),
  check (state not in ('mined', 'final', 'reverted') or mined_hash is not null)
);
create index attempt_open on attempt (chain_id, sender, nonce) where state in ('signed', 'broadcast', 'mined');

create table attempt_transaction (
  hash                     bytea   primary key check (length(hash) = 32),
  attempt_id               bigint  not null references attempt,
  raw                      bytea   not null,     -- signed, as sent
  gas_limit                bigint  not null,
  max_fee_wei              numeric not null,     -- per gas, EIP-1559
  max_priority_fee_wei     numeric not null,     -- per gas
  signed_ms                bigint  not null
);
create index attempt_transaction_by_attempt on attempt_transaction (attempt_id);

-- Which settlements travel in an attempt. `live` until the attempt is proven to settle nothing: at most one attempt
-- can settle a batch at any time.
create table settlement_attempt (
  region_id    integer not null,
  round        integer not null,
  interval_end bigint  not null,
  attempt_id   bigint  not null references attempt,
  live         boolean not null default true,
  primary key (region_id, round, interval_end, attempt_id),
  foreign key (region_id, round, interval_end) references settlement
);
create unique index settlement_attempt_live on settlement_attempt (region_id, round, interval_end) where live;
create index settlement_attempt_by_attempt on settlement_attempt (attempt_id);

-- Where an authority stands in a region: it attests a region's batches in order.
create index attestation_by_authority on attestation (authority, authority_set_epoch, region_id, round, interval_end);
