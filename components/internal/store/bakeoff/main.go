// Command bakeoff measures engines for the local store in the way it uses one: one goroutine writes, the writes of all who wait
// share a commit, and each is answered when it is on the disk. Beside it the disk's own rate, by fdatasync of a file that is there
// already. Rounds are interleaved, so that what else the machine does hits all alike.
//
//	cd components/internal/store/bakeoff && go run . -dir /var/tmp
package main

import (
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// engine is one under test: write commits a group so that it is on the disk.
type engine interface {
	write(group [][2][]byte) error
	close() error
}

type candidate struct {
	name string
	open func(dir string) (engine, error)
}

var (
	where  = flag.String("dir", os.TempDir(), "folder on the disk to measure")
	rounds = flag.Int("rounds", 5, "rounds of each")
	length = flag.Duration("length", time.Second, "of a round")
	value  = flag.Int("value", 256, "bytes of a value")
	fill   = flag.Int("fill", 50000, "values written before the recovery is measured")
)

func main() {
	flag.Parse()
	dir, err := os.MkdirTemp(*where, "bakeoff-")
	check(err)
	defer os.RemoveAll(dir)
	fmt.Println("| engine | c=1 | c=16 | c=64 | mean group at 64 | open after a kill | size of", *fill, "values |\n|---|---|---|---|---|---|---|")
	raw := map[int][]float64{}
	rates := map[string]map[int][]float64{}
	groups := map[string]float64{}
	for range *rounds {
		for _, c := range []int{1, 16, 64} {
			raw[c] = append(raw[c], syncs(dir))
			for _, k := range candidates {
				ops, group := round(k, filepath.Join(dir, k.name), c)
				if rates[k.name] == nil {
					rates[k.name] = map[int][]float64{}
				}
				rates[k.name][c] = append(rates[k.name][c], ops)
				groups[k.name] = group
			}
		}
	}
	for _, k := range candidates {
		opened, size := recovery(k, filepath.Join(dir, k.name+"-filled"))
		row := "| " + k.name
		for _, c := range []int{1, 16, 64} {
			row += fmt.Sprintf(" | %.0f/s (%.2f)", median(rates[k.name][c]), median(rates[k.name][c])/median(raw[c]))
		}
		fmt.Printf("%s | %.1f | %s | %.1f MiB |\n", row, groups[k.name], opened.Round(100*time.Microsecond), float64(size)/(1<<20))
	}
	fmt.Printf("\nfdatasync: %.0f/s; in brackets writes for each of them\n", median(append(append(raw[1], raw[16]...), raw[64]...)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bakeoff:", err)
		os.Exit(1)
	}
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// round has c callers write for a while, and answers how many writes a second there were, and how many shared a commit.
func round(k candidate, dir string, c int) (ops, group float64) {
	e, err := k.open(dir)
	check(err)
	type one struct {
		kv   [2][]byte
		done chan struct{}
	}
	queue := make(chan one, c)
	var writes, commits atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for first := range queue {
			all := []one{first}
			for more := true; more; {
				select {
				case next, open := <-queue:
					if more = open; open {
						all = append(all, next)
					}
				default:
					more = false
				}
			}
			kvs := make([][2][]byte, len(all))
			for i := range all {
				kvs[i] = all[i].kv
			}
			check(e.write(kvs))
			commits.Add(1)
			writes.Add(int64(len(all)))
			for i := range all {
				close(all[i].done)
			}
		}
	}()
	begun := time.Now()
	var callers sync.WaitGroup
	for range c {
		callers.Go(func() {
			for time.Since(begun) < *length {
				o := one{pair(), make(chan struct{})}
				queue <- o
				<-o.done
			}
		})
	}
	callers.Wait()
	took := time.Since(begun).Seconds()
	close(queue)
	<-ended
	check(e.close())
	return float64(writes.Load()) / took, float64(writes.Load()) / float64(commits.Load())
}

func pair() [2][]byte {
	kv := [2][]byte{make([]byte, 32), make([]byte, *value)}
	_, _ = rand.Read(kv[0])
	_, _ = rand.Read(kv[1])
	return kv
}

// syncs is how often a second 512 bytes can be written over and synced.
func syncs(dir string) float64 {
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4<<20), 0)
	check(err)
	check(f.Sync())
	n, begun := 0, time.Now()
	for ; time.Since(begun) < *length; n++ {
		_, err := f.WriteAt(make([]byte, 512), int64(n*512%(4<<20)))
		check(err)
		check(fdatasync(f))
	}
	return float64(n) / time.Since(begun).Seconds()
}

// recovery is how long it takes to open what a killed process leaves: a copy of the files as they are while the engine runs.
func recovery(k candidate, dir string) (time.Duration, int64) {
	e, err := k.open(dir)
	check(err)
	for n := 0; n < *fill; n += 64 {
		group := make([][2][]byte, 64)
		for i := range group {
			group[i] = pair()
		}
		check(e.write(group))
	}
	left := dir + "-left"
	check(os.CopyFS(left, os.DirFS(dir)))
	check(e.close())
	begun := time.Now()
	e, err = k.open(left)
	check(err)
	took := time.Since(begun)
	check(e.close())
	size := int64(0)
	check(filepath.Walk(left, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			size += info.Size()
		}
		return err
	}))
	return took, size
}
