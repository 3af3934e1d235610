create table if not exists sequence_numbers (
	key text collate "C" primary key,
	last bigint not null
);

-- The last of so many numbers, of which none was given before.
create or replace function sequence_next(number_key text, size bigint) returns bigint language sql as $$
	insert into sequence_numbers values (number_key, raised() + size)
		on conflict (key) do update set last = greatest(sequence_numbers.last, raised()) + size
		returning last
$$;
