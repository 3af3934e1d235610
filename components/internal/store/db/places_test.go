//go:build !race

package db_test

const everyPlace = 1 // all of them
