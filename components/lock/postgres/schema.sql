-- Tokens are this number and what raised() answers: greater each time, also where the last ones that were given are missing.
create sequence if not exists lock_tokens;

create table if not exists lock_holders (
	key text collate "C" primary key,
	owner bytea not null,
	token bigint not null,
	expires timestamptz not null,
	call text -- that it was given to, as long as that may be the only one that knows of it
);
create index if not exists lock_holders_expires_idx on lock_holders (expires);

-- Who waits for which lock, in the order of their tickets. Those of a client count as long as it gives signs of life. A server that
-- crashed has forgotten them: they queue anew.
create unlogged table if not exists lock_waiters (
	ticket bigserial primary key,
	key text collate "C" not null,
	client text not null,
	call text not null,
	alive timestamptz not null
);
create index if not exists lock_waiters_key_ticket_idx on lock_waiters (key, ticket);
create index if not exists lock_waiters_client_idx on lock_waiters (client);
create index if not exists lock_waiters_call_idx on lock_waiters (call);

-- Tells those who wait for a lock that it may be theirs sooner than they know.
create or replace function lock_tell(lock bigint, lock_key text) returns void language plpgsql as $$
begin
	if exists (select from lock_waiters where key = lock_key) then
		perform pg_notify(current_schema() || '_lock', lock::text);
	end if;
end $$;

-- Gives the lock if nobody has it, or its owner once more. Otherwise life tells how long it may be held, in microseconds, and turn the
-- number in the queue for who waits: he has a ticket, 0 to get one. most is how many may wait.
create or replace function lock_take(
	lock bigint, patience integer, lock_key text, lock_owner bytea, lease bigint, waits boolean, waiter text, call_id text, most integer, inout ticket bigint,
	out token bigint, out life bigint, out first boolean, out crowded boolean
) language plpgsql as $$
#variable_conflict use_variable
declare
	now timestamptz;
	holder lock_holders;
	ahead lock_waiters;
begin
	perform set_config('lock_timeout', patience::text, true);
	perform pg_advisory_xact_lock(lock);
	now := clock_timestamp();
	crowded := false;
	select * into holder from lock_holders h where h.key = lock_key and h.expires > now;
	if found and holder.owner = lock_owner then
		update lock_holders h set expires = now + lease * interval '1 ms', call = case when h.call = call_id then h.call end where h.key = lock_key;
		if now + lease * interval '1 ms' < holder.expires then
			perform lock_tell(lock, lock_key);
		end if;
		token := holder.token;
	else
		select * into ahead from lock_waiters w
			where w.key = lock_key and w.alive > now and (ticket = 0 or w.ticket < ticket) order by w.ticket limit 1;
		first := ahead.ticket is null;
		if holder.key is null and first then
			token := raised() + nextval('lock_tokens');
			insert into lock_holders values (lock_key, lock_owner, token, now + lease * interval '1 ms', call_id)
				on conflict (key) do update set owner = excluded.owner, token = excluded.token, expires = excluded.expires, call = excluded.call;
		end if;
	end if;
	if token is not null then
		life := lease * 1000;
		if ticket <> 0 then
			delete from lock_waiters w where w.ticket = ticket;
		end if;
		return;
	end if;
	life := case when holder.key is null then 20000 else greatest(1, (extract(epoch from holder.expires - now) * 1e6)::bigint) end;
	if not waits then
		return;
	end if;
	update lock_waiters w set alive = now + interval '3 s' where w.ticket = ticket and w.key = lock_key;
	if not found then
		ticket := 0;
		crowded := most <= (select count(*) from lock_waiters w where w.key = lock_key and w.alive > now);
		if not crowded then
			insert into lock_waiters (key, client, call, alive) values (lock_key, waiter, call_id, now + interval '3 s') returning lock_waiters.ticket into ticket;
		end if;
	end if;
end $$;

create or replace function lock_renew(lock bigint, patience integer, lock_key text, lock_token bigint, lease bigint) returns boolean language plpgsql as $$
declare
	now timestamptz;
	holder lock_holders;
begin
	perform set_config('lock_timeout', patience::text, true);
	perform pg_advisory_xact_lock(lock);
	now := clock_timestamp();
	select * into holder from lock_holders h where h.key = lock_key and h.token = lock_token and h.expires > now;
	if not found then
		return false;
	end if;
	update lock_holders h set expires = now + lease * interval '1 ms' where h.key = lock_key;
	if now + lease * interval '1 ms' < holder.expires then
		perform lock_tell(lock, lock_key);
	end if;
	return true;
end $$;

create or replace function lock_free(lock bigint, patience integer, lock_key text, lock_token bigint) returns boolean language plpgsql as $$
begin
	perform set_config('lock_timeout', patience::text, true);
	perform pg_advisory_xact_lock(lock);
	delete from lock_holders h where h.key = lock_key and h.token = lock_token and h.expires > clock_timestamp();
	if not found then
		return false;
	end if;
	perform lock_tell(lock, lock_key);
	return true;
end $$;

-- Takes back what a call was given that its caller does not hear of: the lock, unless another call of the owner knows of it, or its place
-- in the queue.
create or replace function lock_forget(lock bigint, lock_key text, call_id text) returns void language plpgsql as $$
begin
	perform pg_advisory_xact_lock(lock);
	delete from lock_waiters w where w.call = call_id;
	delete from lock_holders h where h.key = lock_key and h.call = call_id;
	if found then
		perform lock_tell(lock, lock_key);
	end if;
end $$;

-- A sign of life of those who wait at a client.
create or replace function lock_beat(waiter text) returns void language sql as $$
	update lock_waiters set alive = clock_timestamp() + interval '3 s' where client = waiter
$$;

create or replace function lock_sweep(most integer) returns void language plpgsql as $$
begin
	perform set_config('synchronous_commit', 'off', true);
	delete from lock_holders t using (select ctid from lock_holders where expires <= clock_timestamp()
		order by expires limit most for update skip locked) old where t.ctid = old.ctid;
	delete from lock_waiters t using (select ctid from lock_waiters where alive <= clock_timestamp() - interval '1 min'
		limit most for update skip locked) old where t.ctid = old.ctid;
end $$;
