-- An authority's own store, in a schema of its own: what it has seen, what it has committed itself to, what it said.
-- Nobody else writes here. Hashes, roots and addresses are bytea; instants unix seconds unless the name says ms.

-- Evidence files as fetched, zstd, stored before they are judged.
create table evidence (
  region_id    integer not null,
  round        integer not null,
  interval_end bigint  not null,
  data_hash    bytea   not null check (length(data_hash) = 32),  -- of the decompressed bytes themselves
  file_zstd    bytea   not null,
  stored_ms    bigint  not null,
  primary key (region_id, round, interval_end, data_hash)
);

-- The one content that this key signs for a batch, committed before the key is used; never updated, never deleted.
-- A row also says that the batch was verified and follows an accepted or verified one: later batches build on it.
create table intent (
  authority    bytea   not null check (length(authority) = 20),
  chain_id     bigint  not null,
  contract     bytea   not null check (length(contract) = 20),
  region_id    integer not null,
  round        integer not null,
  interval_end bigint  not null,
  content_hash bytea   not null check (length(content_hash) = 32),
  root         bytea   not null check (length(root) = 32),
  data_hash    bytea   not null check (length(data_hash) = 32),
  committed_ms bigint  not null,
  primary key (authority, chain_id, contract, region_id, round, interval_end)
);

-- What the authority says of a batch: its signature, or its refusal with the reason and the signature over that.
create table verdict (
  authority           bytea   not null check (length(authority) = 20),
  chain_id            bigint  not null,
  contract            bytea   not null check (length(contract) = 20),
  region_id           integer not null,
  round               integer not null,
  interval_end        bigint  not null,
  content_hash        bytea   not null check (length(content_hash) = 32),
  authority_set_epoch integer not null,
  refusal             text,
  signature           bytea   not null check (length(signature) = 65),
  decided_ms          bigint  not null,
  primary key (authority, chain_id, contract, content_hash, authority_set_epoch)
);
