//go:build race

package db_test

// everyPlace is which of the places of a damage are tried: what damage does hangs on no race, and takes ten times as long with the detector.
const everyPlace = 8

var disksToEmpty = []int64{48 << 20} // the large ones take minutes
