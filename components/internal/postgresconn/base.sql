-- Which server this is: another one after a fail-over, or where a copy was restored.
create or replace function server_now() returns text language sql stable as $$
	select (select system_identifier from pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
$$;

-- One row. Numbers that may not come back begin behind raised.
create table if not exists servers (
	one boolean primary key default true check (one),
	server text not null,
	created timestamptz not null default clock_timestamp(),
	raised bigint not null default 0
);
insert into servers (server) values (server_now()) on conflict do nothing;

-- What was given by another server, and may be missing here, is left behind: as many as there were nanoseconds since the beginning.
create or replace function raised() returns bigint language plpgsql as $$
declare
	known servers;
begin
	select * into strict known from servers;
	if known.server = server_now() then
		return known.raised;
	end if;
	select * into strict known from servers for update;
	if known.server <> server_now() then
		update servers set server = server_now(),
			raised = greatest(known.raised, (extract(epoch from clock_timestamp() - created) * 1e9)::bigint)
			returning raised into known.raised;
	end if;
	return known.raised;
end $$;
