//go:build !race

package db_test

const everyPlace = 1 // all of them

var disksToEmpty = []int64{48 << 20, 160 << 20, 256 << 20}
