-- What the aggregator keeps between the log and the batches.

-- The state of each service point, packed as domain/metering/packed-service-point.ts documents. Written in the
-- transaction that moves the aggregator's offset of the partition. Rows are rewritten all the time: leave room.
create table service_point_state (
  region_id     integer not null references region,
  partition     integer not null,
  service_point text    not null,
  packed        bytea   not null,
  primary key (region_id, partition, service_point)
) with (fillfactor = 60);

-- How far a partition's states had come when they were last written.
create table partition_progress (
  region_id      integer   not null references region,
  partition      integer   not null,
  first_end      bigint,                        -- the boundary that the first element of the arrays is about
  counting       integer[] not null,            -- per boundary: service points that a seal waits for,
  waiting        integer[] not null,            -- and those of them without a reading at or after it
  blocked_end    bigint,                        -- interval of the record before which the partition pauses
  readings       bigint    not null default 0,  -- readings taken from the log, each in one of the next five:
  accepted       bigint    not null default 0,
  stale          bigint    not null default 0,
  duplicates     bigint    not null default 0,
  waiting_epoch  bigint    not null default 0,  -- came before their epoch; counted again once it opens
  quarantined    bigint    not null default 0,
  primary key (region_id, partition)
) with (fillfactor = 60);

-- The append time of the region's first record with a reading in an interval. A fact of the log, so whoever sees it
-- writes it. The grace of a boundary runs from the earliest of the intervals after it. Deleted by the seal.
create table interval_opening (
  region_id       integer not null references region,
  interval_end    bigint  not null,
  first_append_ms bigint  not null,
  primary key (region_id, interval_end)
);

-- Up to which offset each partition has to be consumed before the interval is sealed, determined once, after the
-- deadline. A barrier that a paused partition could not reach is lowered to where it pauses; such rows stay after the
-- seal as a record of it.
create table seal_barrier (
  region_id    integer not null references region,
  interval_end bigint  not null,
  partition    integer not null,
  next_offset  bigint  not null,
  lowered_from bigint,
  primary key (region_id, interval_end, partition)
);
