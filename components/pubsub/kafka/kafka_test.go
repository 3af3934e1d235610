package kafka

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func TestNamesAreReversible(t *testing.T) {
	seen := map[string]string{}
	check := func(name string) bool {
		if name == "" {
			return true
		}
		kafka := topicName("p.", pubsub.Topic{Namespace: "shop", Name: name})
		if len(kafka) > maxName || strings.Trim(kafka, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" {
			t.Errorf("%q is no name of a topic", kafka)
		}
		if len(escape(name)) < maxName-len("p.shop.") && unescape(escape(name)) != name {
			t.Errorf("%q is %q, and back %q", name, escape(name), unescape(escape(name)))
		}
		alike := strings.ReplaceAll(kafka, ".", "_") // what Kafka takes for the same
		if other, ok := seen[alike]; ok && other != name {
			t.Errorf("%q and %q are both %q", name, other, kafka)
		}
		seen[alike] = name
		return true
	}
	for _, name := range []string{"orders", "a.b", "a_b", "a.5fb", "a_5fb", "a.", ".a", "..", "a..5f", "ab.abc", strings.Repeat("x", 255), strings.Repeat("x", 254), strings.Repeat("ü", 120)} {
		check(name)
	}
	letters := []rune("ab5f._-ü")
	for range 20_000 {
		name := make([]rune, 1+rand.IntN(8))
		for i := range name {
			name[i] = letters[rand.IntN(len(letters))]
		}
		check(string(name))
	}
	if got := topicName("", pubsub.Topic{Namespace: "shop", Name: "orders.created-2"}); got != "shop.orders.created-2" {
		t.Errorf("a plain name is %q", got)
	}
}

func TestProgressIsReadAsItWasWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		p := &progress{count: 3, moved: int64(round), offset: random.Int64N(1 << 40), open: map[int64]try{}}
		p.known = p.offset + random.Int64N(3000)
		for o := p.offset; o < p.known; o++ {
			if random.IntN(3) == 0 {
				p.open[o] = try{attempts: random.IntN(3), due: []int64{0, 1_800_000_000_000 + random.Int64N(1000)}[random.IntN(2)], holder: []string{"", "a", "b"}[random.IntN(3)]}
			}
		}
		got, err := decode(p.offset, p.encode())
		if err != nil {
			t.Fatal(err)
		}
		if got.count != p.count || got.moved != p.moved || got.known != p.known || !maps.Equal(got.open, p.open) {
			t.Fatalf("read is %+v\nwritten was %+v", got, p)
		}
	}
	p, err := decode(7, "set by an operator")
	if err != nil || p.offset != 7 || p.known != 7 || len(p.open) > 0 {
		t.Errorf("foreign metadata are %+v, %v", p, err)
	}
	if err := quick.Check(func(raw []byte, packed bool) bool {
		_, _ = decode(1, []string{plain, deflated}[len(raw)%2]+string(raw)) // must not panic
		return true
	}, nil); err != nil {
		t.Error(err)
	}
}

// Many that are settled out of order take few bytes: where each second event is settled, and where all are under way.
func TestProgressIsSmall(t *testing.T) {
	all := &progress{known: 20_000, open: map[int64]try{}}
	second := &progress{known: 20_000, open: map[int64]try{}}
	for o := range int64(20_000) {
		all.open[o] = try{attempts: 1, holder: "me"}
		if o%2 == 0 {
			second.open[o] = try{attempts: 1, holder: "me"}
		}
	}
	for name, p := range map[string]*progress{"all": all, "second": second} {
		if n := len(p.encode()); n > maxMetadata {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
}

func TestSharesFollowWeightsAndStayPut(t *testing.T) {
	plan := share(6, map[string]wish{"a": {Weight: 1, Owned: []int32{0, 1, 2, 3, 4, 5}}, "b": {Weight: 1}, "c": {Weight: 1}})
	for _, name := range []string{"a", "b", "c"} {
		if len(plan[name]) != 2 {
			t.Errorf("of equals %s has %v", name, plan[name])
		}
	}
	plan = share(6, map[string]wish{"a": {Weight: 2}, "b": {Weight: 1}, "c": {Owned: []int32{0, 1, 2, 3, 4, 5}}})
	if len(plan["a"]) != 4 || len(plan["b"]) != 2 || len(plan["c"]) != 0 {
		t.Errorf("by weights 2, 1, 0: %v", plan)
	}
	plan = share(3, map[string]wish{"a": {}, "b": {}})
	if len(plan["a"])+len(plan["b"]) != 3 {
		t.Errorf("nobody has room: %v", plan)
	}
	wishes := map[string]wish{"a": {Weight: 1, Owned: []int32{2, 4}}, "b": {Weight: 1, Owned: []int32{0, 1, 3}}}
	plan = share(5, wishes)
	slices.Sort(plan["b"])
	if !slices.Equal(plan["a"], []int32{2, 4}) || !slices.Equal(plan["b"], []int32{0, 1, 3}) {
		t.Errorf("nothing has changed, and the plan is %v", plan)
	}
}

func TestAPartitionIsNotTakenFromItsOwnerBeforeItIsOffered(t *testing.T) {
	wishes := map[string]wish{"a": {Member: "x", Owned: []int32{0, 1}, Offered: []int32{0}}, "b": {Member: "y", Weight: 3}}
	plan := share(2, wishes)
	if len(plan["b"]) != 2 {
		t.Fatalf("the plan is %v", plan)
	}
	o := instruct(plan, wishes)
	if !slices.Equal(plan["a"], []int32{1}) || !slices.Equal(plan["b"], []int32{0}) {
		t.Errorf("0 was offered, 1 was not: %v", plan)
	}
	if !slices.Equal(o["a"].Offer, []int32{1}) || len(o["b"].Offer) > 0 || !o["b"].More {
		t.Errorf("the orders are %+v", o)
	}
}

func TestForeignMessages(t *testing.T) {
	e := event(&sarama.ConsumerMessage{Topic: "t", Partition: 1, Offset: 2, Key: []byte{0xff}, Value: []byte("x"), Headers: []*sarama.RecordHeader{
		{Key: []byte("trace"), Value: []byte("1\xff")}}})
	if e.ID != "t/1/2" || e.OrderingKey != "ff" || string(e.Data) != "x" || e.Metadata["trace"] != "1\uFFFD" {
		t.Errorf("it is %+v", e)
	}
}
