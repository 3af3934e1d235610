create sequence if not exists state_versions;

create table if not exists state_items (
	key text collate "C" primary key,
	version text not null,
	value bytea not null,
	attributes bytea, -- JSON of the content type and the metadata; null: neither
	expires timestamptz
);
create index if not exists state_items_expires_idx on state_items (expires) where expires is not null;

-- What idempotency keys were answered.
create table if not exists state_answers (
	key text collate "C" primary key,
	digest bytea not null,
	outcome text not null,
	versions text[] not null,
	expires timestamptz not null
);
create index if not exists state_answers_expires_idx on state_answers (expires);

-- The calls of branches of distributed transactions, and whether each came itself or what takes it back did.
create table if not exists state_branches (
	gid text collate "C",
	branch text collate "C",
	op text collate "C",
	itself boolean not null,
	expires timestamptz not null,
	primary key (gid, branch, op)
);
create index if not exists state_branches_expires_idx on state_branches (expires);

-- The newest token that was seen of each lock.
create table if not exists state_fences (
	name text collate "C" primary key,
	token numeric(20) not null,
	expires timestamptz
);
create index if not exists state_fences_expires_idx on state_fences (expires) where expires is not null;

-- A transaction as a whole. All of it is decided before anything is written, so that one that does not hold has nothing to take back.
-- The advisory locks, in their order, let one in after the other of those that touch the same things; what each of the statements then
-- reads is newer than them.
create or replace function state_transact(
	locks bigint[], patience integer,
	answer_key text, answer_digest bytea, answer_keep bigint,
	call_gid text, call_branch text, call_op text, call_forward text, call_keep bigint,
	fence_name text, fence_token numeric, fence_keep bigint,
	kinds integer[], keys text[], if_versions text[], if_absents boolean[], new_values bytea[], new_attributes bytea[], ttls bigint[],
	out fault text, out place integer, out detail text, out outcome text, out versions text[]
) language plpgsql as $$
#variable_conflict use_variable
declare
	id bigint;
	now timestamptz;
	answer state_answers;
	own state_branches;
	back boolean := false;
	seen state_fences;
	found_version text;
	fresh text;
begin
	perform set_config('lock_timeout', patience::text, true);
	foreach id in array locks loop
		perform pg_advisory_xact_lock(id);
	end loop;
	now := clock_timestamp();

	if answer_key is not null then
		select * into answer from state_answers a where a.key = answer_key and a.expires > now;
		if found then
			if answer.digest <> answer_digest then
				fault := 'reused';
			else
				outcome := answer.outcome;
				versions := answer.versions;
			end if;
			return;
		end if;
	end if;

	outcome := 'APPLIED';
	versions := '{}';
	if call_gid is not null then
		select * into own from state_branches b where b.gid = call_gid and b.branch = call_branch and b.op = call_op and b.expires > now;
		if found then
			outcome := case when own.itself then 'REPEATED' else 'SUSPENDED' end;
		elsif call_forward is not null then
			back := not exists (select from state_branches b where b.gid = call_gid and b.branch = call_branch and b.op = call_forward and b.expires > now);
			if back then
				outcome := 'EMPTY';
			end if;
		end if;
	end if;

	if outcome = 'APPLIED' then
		if fence_name is not null then
			select * into seen from state_fences f where f.name = fence_name and (f.expires is null or f.expires > now);
			if found and fence_token < seen.token then
				fault := 'stale';
				detail := seen.token::text;
				return;
			end if;
		end if;
		for i in 1 .. coalesce(array_length(keys, 1), 0) loop
			if if_absents[i] or if_versions[i] <> '' then
				select t.version into found_version from state_items t where t.key = keys[i] and (t.expires is null or t.expires > now);
				fault := case
					when if_absents[i] and found then 'exists'
					when if_versions[i] <> '' and (not found or found_version <> if_versions[i]) then 'conflict'
				end;
				if fault is not null then
					place := i - 1;
					detail := case when found then found_version end;
					return;
				end if;
			end if;
		end loop;
	end if;

	if call_gid is not null and own.gid is null then
		insert into state_branches values (call_gid, call_branch, call_op, true, now + call_keep * interval '1 ms')
			on conflict (gid, branch, op) do update set itself = true, expires = excluded.expires;
		if back then
			insert into state_branches values (call_gid, call_branch, call_forward, false, now + call_keep * interval '1 ms')
				on conflict (gid, branch, op) do update set itself = false, expires = excluded.expires;
		end if;
	end if;

	if outcome = 'APPLIED' then
		-- A token that is in use is not written each time, but so often that it is not forgotten.
		if fence_name is not null and (seen.name is null or fence_token > seen.token or
				fence_keep > 0 and (seen.expires is null or seen.expires < now + fence_keep / 2 * interval '1 ms')) then
			insert into state_fences values (fence_name, fence_token, case when fence_keep > 0 then now + fence_keep * interval '1 ms' end)
				on conflict (name) do update set token = excluded.token, expires = excluded.expires;
		end if;
		for i in 1 .. coalesce(array_length(keys, 1), 0) loop
			fresh := '';
			if kinds[i] = 1 then
				fresh := nextval('state_versions') || '-' || left(gen_random_uuid()::text, 8);
				insert into state_items values (keys[i], fresh, new_values[i], new_attributes[i], case when ttls[i] > 0 then now + ttls[i] * interval '1 ms' end)
					on conflict (key) do update set version = excluded.version, value = excluded.value,
						attributes = excluded.attributes, expires = excluded.expires;
			elsif kinds[i] = 2 then
				delete from state_items t where t.key = keys[i];
			end if;
			versions := versions || fresh;
		end loop;
	end if;

	if answer_key is not null then
		insert into state_answers values (answer_key, answer_digest, outcome, versions, now + answer_keep * interval '1 ms')
			on conflict (key) do update set digest = excluded.digest, outcome = excluded.outcome,
				versions = excluded.versions, expires = excluded.expires;
	end if;
end $$;

-- Takes the room of what has expired back: of each table at most so many rows, none that somebody works on, and not while another does
-- the same. That it is lost with the server does no harm.
create or replace function state_sweep(most integer, lock bigint) returns integer language plpgsql as $$
declare
	name text;
	gone integer;
	largest integer := 0;
begin
	if not pg_try_advisory_xact_lock(lock) then
		return 0;
	end if;
	perform set_config('synchronous_commit', 'off', true);
	foreach name in array array['state_items', 'state_answers', 'state_branches', 'state_fences'] loop
		execute format('delete from %1$I t using (select ctid from %1$I where expires <= clock_timestamp()
			order by expires limit $1 for update skip locked) old where t.ctid = old.ctid', name) using most;
		get diagnostics gone = row_count;
		largest := greatest(largest, gone);
	end loop;
	return largest;
end $$;
