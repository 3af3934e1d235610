package kafka

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
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

func TestMetadataAreReadAsTheyWereWritten(t *testing.T) {
	for _, n := range []int64{3, 3000} { // as they are, and deflated
		p := parts.Begin(7)
		p.Count, p.Moved, p.Known = 3, 1, 7+n
		for o := range n {
			p.Open[7+o] = parts.Try{Attempts: int(o % 3), Due: o * o, Holder: "a"}
		}
		got, err := progress(7, metadata(p))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%d: read is %+v, %v", n, got, err)
		}
	}
	p, err := progress(7, "set by an operator")
	if err != nil || p.Offset != 7 || p.Known != 7 || len(p.Open) > 0 {
		t.Errorf("foreign metadata are %+v, %v", p, err)
	}
	if _, err := progress(1, plain+"?"); err == nil {
		t.Error("what is no base64 is read")
	}
}

// Many that are settled out of order take few bytes: where each second event is settled, and where all are under way.
func TestMetadataAreSmall(t *testing.T) {
	all := &parts.Progress{Known: 20_000, Open: map[int64]parts.Try{}}
	second := &parts.Progress{Known: 20_000, Open: map[int64]parts.Try{}}
	for o := range int64(20_000) {
		all.Open[o] = parts.Try{Attempts: 1, Holder: "me"}
		if o%2 == 0 {
			second.Open[o] = parts.Try{Attempts: 1, Holder: "me"}
		}
	}
	for name, p := range map[string]*parts.Progress{"all": all, "second": second} {
		if n := len(metadata(p)); n > maxMetadata {
			t.Errorf("%s: %d bytes", name, n)
		}
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
