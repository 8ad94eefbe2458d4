-- The time series: raw points, rollups and the marks that say which rollups are out of date. Schema `series`,
-- applied by PostgresTimeSeries.open(). Energy is Wh, instants are unix seconds unless the name says ms.
--
-- Partitions are made on demand and dropped whole by retention (partitions.ts). They are cut like the buckets,
-- (start, end], so that the raw points of a bucket never lie in two of them.

-- Short numbers for meter ids. A meter's region is the one it was first written with.
create table meter (
  id       integer generated always as identity primary key,
  meter_id text    not null unique,
  region   text    not null
);

-- One row per reading. Lookups are by meter and time; epoch and seq keep two readings of one second apart.
create table point (
  meter         integer not null,
  epoch         integer not null,
  t             bigint  not null,
  seq           bigint  not null,
  import_wh     bigint  not null,
  export_wh     bigint  not null,
  power_w       integer,
  voltage_dv    integer,
  frequency_mhz integer,
  status        integer not null,
  primary key (meter, t, epoch, seq)
) partition by range (t);

-- 15-minute buckets, (bucket_end - 900, bucket_end], from the raw points. Sums are exact, so that the coarser
-- resolutions are computed from the finer ones without loss.
create table bucket_900 (
  meter           integer not null,
  epoch           integer not null,
  bucket_end      bigint  not null,
  readings        bigint  not null,
  first_t         bigint  not null,
  last_t          bigint  not null,
  first_import_wh bigint  not null,
  last_import_wh  bigint  not null,
  first_export_wh bigint  not null,
  last_export_wh  bigint  not null,
  power_readings  bigint  not null,              -- how many readings carry a power
  power_sum_w     bigint,                        -- null, as the minimum and the maximum, where none does
  min_power_w     integer,
  max_power_w     integer,
  version         bigint  not null default 1,    -- how often the bucket was computed
  primary key (meter, bucket_end, epoch)
) partition by range (bucket_end);

-- Hours and days.
create table bucket_3600  (like bucket_900 including all) partition by range (bucket_end);
create table bucket_86400 (like bucket_900 including all) partition by range (bucket_end);

-- Buckets to be computed again. A write sets the marks of 900 s in its own transaction; a repair of one
-- resolution deletes its marks and sets those of the next one in its own.
create table dirty (
  resolution integer not null,
  bucket_end bigint  not null,
  meter      integer not null,
  epoch      integer not null,
  marked_ms  bigint  not null,                   -- adapter's clock when the mark was set
  primary key (resolution, bucket_end, meter, epoch)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- Meters with a reading, and readings, per region and 15-minute interval: the sums over bucket_900, kept in the
-- transaction that changes it.
create table completeness (
  region     text   not null,
  bucket_end bigint not null,
  meters     bigint not null,
  readings   bigint not null,
  primary key (region, bucket_end)
);

-- How far raw points have expired: a point at or before it would be rolled up without its neighbours.
create table expired (
  only_row boolean primary key default true check (only_row),
  until_t  bigint  not null
);
insert into expired (until_t) values (0);
