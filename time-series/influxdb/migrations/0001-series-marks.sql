-- What the time series on InfluxDB keeps in PostgreSQL, because InfluxDB has neither transactions nor unique keys: which
-- rollups are out of date, which region a meter belongs to, and how far the series has expired. Schema `series_marks`,
-- applied by InfluxTimeSeries.open(). Instants are unix seconds unless the name says ms.

-- The buckets that the marks are about. One row: marks of one series would be repaired in another's buckets.
create table owner (
  only_row  boolean primary key default true check (only_row),
  namespace text    not null
);

-- Short numbers for meter ids. A meter's region is the one it was first written with: it is a tag, so a point written
-- with another one would be a second point.
create table meter (
  id       integer generated always as identity primary key,
  meter_id text    not null unique,
  region   text    not null
);

-- Rollups to be computed again. A write sets marks of 900 s once its points are in InfluxDB. A repair takes marks for a
-- while, works without holding a lock, and deletes those that were not set again in the meantime.
create table dirty (
  resolution  integer     not null,
  bucket_end  bigint      not null,
  meter       integer     not null,
  epoch       integer     not null,
  marked_ms   bigint      not null,               -- adapter's clock when the mark was set
  taken_by    bigint,                             -- the repair that works on it
  taken_until timestamptz,                        -- from then on another repair may take it
  retaken     boolean     not null default false, -- the repair before gave no word of how far it came
  again       boolean     not null default false, -- set once more since it was taken
  primary key (resolution, bucket_end, meter, epoch)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- Regions and 15-minute intervals whose completeness is to be counted again; otherwise as `dirty`.
create table dirty_completeness (
  region      text    not null,
  bucket_end  bigint  not null,
  marked_ms   bigint  not null,
  taken_by    bigint,
  taken_until timestamptz,
  again       boolean not null default false,
  primary key (bucket_end, region)
);

-- Numbers of handles that repair.
create sequence repairer;

-- Readings whose seq is beyond what InfluxDB's points are told apart by: which seq holds the nanosecond `slot`.
create table wide_seq (
  meter integer not null,
  epoch integer not null,
  t     bigint  not null,
  slot  integer not null,
  seq   bigint  not null,
  primary key (t, meter, epoch, slot)
);

-- How far each part of the series has expired, and how far InfluxDB has deleted it. Always the end of a day.
create table expired (
  part            text   primary key,
  until_t         bigint not null default 0,
  deleted_until_t bigint not null default 0
);
insert into expired (part) values ('raw'), ('15m'), ('1h'), ('1d');
