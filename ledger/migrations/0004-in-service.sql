-- Service points of the partition that no record has retired. A region without any seals what is left of it after
-- the grace: nobody will ever speak beyond it. A partition that was last flushed before this column has some.
alter table partition_progress add column in_service integer not null default 1;
