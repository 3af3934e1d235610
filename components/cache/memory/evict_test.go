package memory_test

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// scan writes keys that nobody asks for, many times what has room.
func (m measured) scan(t *testing.T, name string, bytes int) {
	t.Helper()
	for i := 0; i*1300 < bytes; i++ {
		m.put(t, name+strconv.Itoa(i), 900)
	}
}

func TestScanDoesNotDriveOutWhatIsInUse(t *testing.T) {
	const hot = 200
	m := openSmall(t, 2*mib)
	for i := range hot {
		m.put(t, "hot"+strconv.Itoa(i), 900)
	}
	for range 3 {
		for i := range hot {
			if _, err := m.Get(t.Context(), "hot"+strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.scan(t, "scan", 20*mib)
	if there := m.count(t, "hot", hot); there < hot*9/10 {
		t.Errorf("after a scan %d of %d items in use are left", there, hot)
	}
}

func TestWhatComesBackStays(t *testing.T) {
	const n = 100
	m := openSmall(t, 2*mib)
	write := func(name string) {
		for i := range n {
			m.put(t, name+strconv.Itoa(i), 900)
		}
	}
	write("back")
	for i := 0; m.count(t, "back", n) > 0; i++ {
		m.put(t, "first"+strconv.Itoa(i), 900)
	}
	write("back")
	write("new")
	m.scan(t, "second", 10*mib)
	if back, once := m.count(t, "back", n), m.count(t, "new", n); back < n/2 || once > 0 {
		t.Errorf("after a scan %d of %d that came back are left, and %d of those that did not", back, n, once)
	}
}

func TestExpiredGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openSmall(t, 2*mib)
		const n = 500 // three times that has room, four times has not
		for i := range n {
			m.put(t, "live"+strconv.Itoa(i), 900)
		}
		for i := range n {
			if _, err := m.Set(t.Context(), "brief"+strconv.Itoa(i), cache.Item{Value: make([]byte, 900), TTL: 10 * time.Millisecond}, cache.SetOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
		for i := range n {
			m.put(t, "fresh"+strconv.Itoa(i), 900)
		}
		for i := range n {
			m.put(t, "more"+strconv.Itoa(i), 900)
		}
		// Each shard looks for itself: one may have nothing expired while another has.
		if there := m.count(t, "live", n); there < n*9/10 {
			t.Errorf("%d of %d items without end are left, though expired ones could go", there, n)
		}
		m.close(t)
	})
}

func TestTimeToLiveIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openSmall(t, mib)
		if _, err := m.Set(t.Context(), "k", cache.Item{TTL: 1500 * time.Millisecond}, cache.SetOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500*time.Millisecond - 1)
		if got, err := m.Get(t.Context(), "k"); err != nil || got.TTL != 1 {
			t.Errorf("a nanosecond before its end: %s left, %v", got.TTL, err)
		}
		time.Sleep(1)
		if _, err := m.Get(t.Context(), "k"); !errors.Is(err, components.ErrNotFound) {
			t.Errorf("at its end: %v, want ErrNotFound", err)
		}
		m.close(t)
	})
}

func TestSweepTakesMemoryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openSmall(t, mib)
		for i := range 600 {
			if _, err := m.Set(t.Context(), strconv.Itoa(i), cache.Item{TTL: time.Duration(i+1) * time.Millisecond}, cache.SetOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if m.bytes(t) == 0 {
			t.Fatal("nothing is counted")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if used := m.bytes(t); used != 0 {
			t.Errorf("%d bytes are used a second after all has expired", used)
		}
		m.close(t)
	})
}

func TestFailedConditionEvictsNothing(t *testing.T) {
	m := openSmall(t, mib)
	m.scan(t, "scan", 2*mib)
	m.put(t, "k", 10)
	before := m.evictions(t)
	for range 100 {
		if _, err := m.Set(t.Context(), "k", cache.Item{Value: make([]byte, mib/8)}, cache.SetOptions{Condition: cache.Condition{IfAbsent: true}}); !errors.Is(err, components.ErrExists) {
			t.Fatalf("%v, want ErrExists", err)
		}
	}
	if after := m.evictions(t); after != before {
		t.Errorf("%d items were evicted for writes that were refused", after-before)
	}
}

func TestCloseGivesAllBack(t *testing.T) {
	m := openSmall(t, mib)
	m.scan(t, "scan", 2*mib)
	m.close(t)
	if used := m.bytes(t); used != 0 {
		t.Errorf("%d bytes are used after Close", used)
	}
}
