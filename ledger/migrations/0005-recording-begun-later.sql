-- The first offset that the log still held when a consumer began to read it: what retention had dropped before is
-- nobody's loss. 0 where the consumer has seen all of the log, so that the recorder's account is
--   next_offset = began_at + written + rejected + other_kinds
alter table consumer_offset add column began_at bigint not null default 0;
