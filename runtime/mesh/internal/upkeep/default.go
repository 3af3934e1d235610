package upkeep

// Default sets a field that its user has left empty.
func Default[T comparable](field *T, value T) {
	var empty T
	if *field == empty {
		*field = value
	}
}
