-- The event log: what Kafka stores, in tables. Schema `log`, applied by event-log/postgres/postgres-event-log.ts.
-- Append times are unix milliseconds of this server's clock.

-- Tells this log from every other; part of each stored position's mark.
create table identity (
  singleton boolean primary key default true check (singleton),
  log_id    uuid    not null default gen_random_uuid()
);
insert into identity default values;

-- A topic as created; `topic_id` is never used again, so that a topic dropped and created anew is another one.
create table topic (
  topic_id   integer generated always as identity primary key,
  name       text    not null unique,
  partitions integer not null check (partitions between 1 and 4096)
);

-- Where a partition begins and ends: first_offset <= offset < next_offset. The lock of this row orders the appends
-- of a partition. Only unindexed columns change and pages are half empty, so that updates stay on their page.
create table head (
  topic_id       integer not null references topic on delete cascade,
  partition      integer not null,
  first_offset   bigint  not null default 0,
  next_offset    bigint  not null default 0,
  append_time_ms bigint  not null default 0,     -- of the last batch; never falls
  primary key (topic_id, partition),
  check (first_offset between 0 and next_offset)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Records [base_offset, base_offset + record_count) of a partition, as appended; never updated.
create table batch (
  topic_id       integer not null references topic on delete cascade,
  partition      integer not null,
  base_offset    bigint  not null,
  record_count   integer not null check (record_count > 0),
  byte_count     integer not null check (byte_count > 0),
  append_time_ms bigint  not null,
  records        bytea   not null,               -- packed: event-log/postgres/packed-batch.ts
  primary key (topic_id, partition, base_offset)
);
-- The server's own compression would cost more time than the disk it spares; slices are read without unpacking.
alter table batch alter column records set storage external;

-- Members of consumer groups. A member that does not renew its row in time has left.
create table group_member (
  group_name text        not null,
  member_id  uuid        not null,
  topics     text[]      not null,
  expires_at timestamptz not null,
  primary key (group_name, member_id)
);

-- Who owns a partition within a group. `claim_id` tells one holding from the next by the same member.
create table group_claim (
  group_name text    not null,
  topic_id   integer not null references topic on delete cascade,
  partition  integer not null,
  member_id  uuid    not null,
  claim_id   bigint  generated always as identity,
  primary key (group_name, topic_id, partition),
  foreign key (group_name, member_id) references group_member on delete cascade
);
create index group_claim_by_member on group_claim (group_name, member_id);

-- How far a group says it has come, for tools. Never read by the log itself.
create table group_hint (
  group_name  text        not null,
  topic_id    integer     not null references topic on delete cascade,
  partition   integer     not null,
  next_offset bigint      not null,
  hinted_at   timestamptz not null default clock_timestamp(),
  primary key (group_name, topic_id, partition)
);

-- Appends packed batches, in the order given within each partition, in one round trip and one transaction.
-- Item i is batches of partition partition_numbers[i] of topic_names[i]: record_counts[i] records in byte_counts[i]
-- bytes, which lie one after another in `packed`.
--
-- First all heads are locked, in order of their keys, so that appenders never wait for one another in a circle; then
-- offsets and the append time are taken under those locks, which are held until the commit. So the batches of a
-- partition become visible in the order of their offsets, and no reader can pass one that is still in flight.
create function append_batches(
  topic_names text[], partition_numbers integer[], record_counts integer[], byte_counts integer[], packed bytea
) returns void language plpgsql as $$
declare
  heads_wanted integer;
  heads_locked integer;
  now_ms       bigint;
begin
  select count(distinct (t, p)) into heads_wanted from unnest(topic_names, partition_numbers) as i (t, p);

  perform from head h
    where (h.topic_id, h.partition) in (
      select topic.topic_id, i.p from unnest(topic_names, partition_numbers) as i (t, p) join topic on topic.name = i.t)
    order by h.topic_id, h.partition
    for update;
  get diagnostics heads_locked = row_count;
  if heads_locked <> heads_wanted then
    raise exception 'append to a partition that does not exist' using errcode = 'GR001';
  end if;

  now_ms := floor(extract(epoch from clock_timestamp()) * 1000);

  insert into batch (topic_id, partition, base_offset, record_count, byte_count, append_time_ms, records)
  select h.topic_id, h.partition,
         h.next_offset + sum(i.n) over (partition by h.topic_id, h.partition order by i.ordinal) - i.n,
         i.n, i.bytes, greatest(h.append_time_ms, now_ms),
         substring(packed from i.start::integer for i.bytes)
    from (select t, p, n, bytes, ordinal, 1 + sum(bytes) over (order by ordinal) - bytes as start
            from unnest(topic_names, partition_numbers, record_counts, byte_counts)
                 with ordinality as u (t, p, n, bytes, ordinal)) i
    join topic on topic.name = i.t
    join head h on h.topic_id = topic.topic_id and h.partition = i.p;

  update head h
     set next_offset = h.next_offset + appended.n, append_time_ms = greatest(h.append_time_ms, now_ms)
    from (select topic.topic_id, i.p, sum(i.n) as n
            from unnest(topic_names, partition_numbers, record_counts) as i (t, p, n) join topic on topic.name = i.t
           group by topic.topic_id, i.p) appended
   where h.topic_id = appended.topic_id and h.partition = appended.p;
end $$;
