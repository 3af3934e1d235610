package schedule

import (
	"strings"
	"testing"
	"time"
)

// TestZonesAreBounded, in however many ways their names are written.
func TestZonesAreBounded(t *testing.T) {
	z := atlas{most: 3, known: map[string]*time.Location{}}
	summer := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		name := "Europe" + strings.Repeat("/", i+1) + "Berlin"
		zone, err := z.find(name)
		if err != nil {
			if i == 0 {
				t.Fatal(err)
			}
			continue // the data base of this machine is not a folder
		}
		if hour := summer.In(zone).Hour(); hour != 14 {
			t.Errorf("%s: noon of UTC is at %d", name, hour)
		}
	}
	if len(z.known) > z.most {
		t.Errorf("%d are kept, %d at most are to be", len(z.known), z.most)
	}
	first, _ := z.find("Europe/Berlin")
	if again, _ := z.find("Europe/Berlin"); again != first {
		t.Error("a zone is read anew each time")
	}
	for _, name := range []string{"Local", "Nowhere/Town"} {
		if zone, err := z.find(name); err == nil {
			t.Errorf("%s: %v", name, zone)
		}
	}
}
