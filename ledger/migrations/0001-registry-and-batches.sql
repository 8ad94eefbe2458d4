-- The ledger: what Gridroot knows for certain. Schema `ledger`, applied by service/migrate.ts.
-- Energy is bigint Wh; instants are unix seconds unless the name says ms; addresses and hashes are bytea.

-- A region as configured, and how far it is sealed. A seal locks the row for update, a flush for share.
create table region (
  region_id        integer primary key,          -- the number on chain
  name             text    not null unique,
  utility          text    not null,
  round            integer not null default 0,
  sealed_until     bigint,                       -- end of the last interval sealed or skipped; null before the first
  registry_version bigint  not null default 0    -- rises with each registry record projected
);

-- Projection of the registry records in the log: one row for each device ever commissioned.
create table meter (
  meter_id        text    primary key,
  region_id       integer not null references region,
  utility         text    not null,
  service_point   text    not null,
  account         bytea   not null check (length(account) = 20),
  modulus_wh      bigint  not null check (modulus_wh > 0),
  max_power_w     bigint  not null check (max_power_w > 0),
  secret_sha256   bytea   not null check (length(secret_sha256) = 32),
  epoch           integer not null default 0,    -- the open register epoch
  commissioned_at bigint  not null,
  retired_at      bigint,                        -- swapped out or retired; such a meter may not connect
  flagged         text                           -- reason code of the first equivocation seen
);
create index meter_by_region on meter (region_id, service_point);
create index meter_by_account on meter (account);

-- Registry records that have taken effect: `gridroot meters` waits for its row, and a repeat does nothing.
create table registry_record (
  record_id    text   primary key,
  region_id    integer not null references region,
  partition    integer not null,
  log_offset   bigint not null,
  refused      text                              -- why it was not applied; null where it was
);

-- The last birth certificate of a meter, as received.
create table meter_birth (
  meter_id    text   primary key,
  payload     jsonb  not null,
  received_ms bigint not null
);

-- Where each stateful consumer stands; the only truth about offsets. `fence` rises with every take-over.
-- Written in the transaction of the state it belongs to:
--   update ... set next_offset = to where next_offset = from and fence = mine  -- no row: somebody took over
create table consumer_offset (
  consumer    text    not null,
  topic       text    not null,
  partition   integer not null,
  next_offset bigint  not null default 0,
  mark        text,                              -- binds next_offset to this very log; null before the first record
  fence       bigint  not null default 0,
  written     bigint  not null default 0,        -- recorder: records whose readings are in the series
  rejected    bigint  not null default 0,        -- recorder: records that held no readable reading
  other_kinds bigint  not null default 0,        -- recorder: registry, event, birth records
  primary key (consumer, topic, partition)
);

-- One sealed batch per (region, round, interval). Never updated, save by an operator's void.
create table batch (
  region_id            integer not null references region,
  round                integer not null,
  interval_end         bigint  not null,
  prev_interval        bigint  not null,         -- 0 for a region's first
  prev_root            bytea   not null check (length(prev_root) = 32),
  root                 bytea   not null check (length(root) = 32),
  interval_credit_wh   bigint  not null check (interval_credit_wh >= 0),
  cumulative_credit_wh bigint  not null,
  cumulative_debit_wh  bigint  not null,
  held_wh              bigint  not null,         -- above the cap, waiting for a later batch
  leaf_count           integer not null check (leaf_count > 0),
  data_hash            bytea   not null check (length(data_hash) = 32),
  content_hash         bytea   not null check (length(content_hash) = 32),
  registry_version     bigint  not null,
  sealed_ms            bigint  not null,
  voided_ms            bigint,
  primary key (region_id, round, interval_end)
);
create index batch_by_sealing on batch (sealed_ms);

-- The evidence file of a batch, zstd. keccak256 of the decompressed bytes is batch.data_hash.
create table evidence (
  region_id    integer not null,
  round        integer not null,
  interval_end bigint  not null,
  file_zstd    bytea   not null,
  primary key (region_id, round, interval_end),
  foreign key (region_id, round, interval_end) references batch
);

-- What an authority said of a batch: a signature over the EIP-712 settlement, or a refusal with its reason.
create table attestation (
  region_id           integer not null,
  round               integer not null,
  interval_end        bigint  not null,
  authority           bytea   not null check (length(authority) = 20),
  authority_set_epoch integer not null,
  signature           bytea   check (length(signature) = 65),
  refusal             text,
  received_ms         bigint  not null,
  primary key (region_id, round, interval_end, authority, authority_set_epoch),
  foreign key (region_id, round, interval_end) references batch,
  check ((signature is null) <> (refusal is null))
);

-- Late data for sealed intervals: explains, is never added to totals.
create table adjustment (
  region_id     integer not null references region,
  interval_end  bigint  not null,                -- the sealed interval that the reading belongs to
  service_point text    not null,
  account       bytea   not null,
  meter_id      text    not null,
  epoch         integer not null,
  seq           bigint  not null,
  delta_wh      bigint  not null,                -- what the sealed boundary value lacked
  reason        text    not null,
  created_ms    bigint  not null,
  primary key (region_id, interval_end, meter_id, epoch, seq)
);

-- Readings that validation set aside after they were in the log. The bytes stay in the log at log_offset.
create table quarantine (
  topic        text    not null,
  partition    integer not null,
  log_offset   bigint  not null,
  index        integer not null,                 -- position in the record's array
  meter_id     text    not null,
  epoch        integer not null,
  seq          bigint  not null,
  t            bigint  not null,
  reason       text    not null,
  primary key (topic, partition, log_offset, index)
);
create index quarantine_by_meter on quarantine (meter_id, t);

-- Which ingest worker holds a client's session. A take-over raises `generation` and notifies the other workers.
create table mqtt_session (
  client_id  text   primary key,
  worker     text   not null,
  generation bigint not null
);
