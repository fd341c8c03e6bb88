package policy

import (
	"reflect"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

func TestResolution(t *testing.T) {
	for grace, want := range map[time.Duration]time.Duration{time.Hour: time.Minute, 4 * time.Minute: time.Minute,
		time.Second: 250 * time.Millisecond} {
		if got := Resolution(grace); got != want {
			t.Errorf("Resolution(%s) = %s; want %s", grace, got, want)
		}
	}
}

func TestCutoffs(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	back := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		what           string
		policy         index.Policy
		names, content time.Duration // ago; 0: never
	}{
		{"names live by the ttl, content by the grace, both leave room for the resolution",
			index.Policy{TTL: 24 * time.Hour, Grace: time.Hour, Resolution: time.Minute}, 24*time.Hour +
				time.Minute, 61 * time.Minute},
		{"a ttl shorter than the grace does not break a promise",
			index.Policy{TTL: time.Minute, Grace: time.Hour,
				Resolution: time.Minute}, 61 * time.Minute, 61 * time.Minute},
		{"ttl 0 is never", index.Policy{Grace: time.Hour, Resolution: time.Minute}, 0, 61 * time.Minute},
	} {
		cut := NewCutoffs(c.policy, back, time.Time{})
		if want := back(c.content); !cut.Content.Equal(want) {
			t.Errorf("%s: content before %s; want %s", c.what, cut.Content, want)
		}
		want := time.Time{}
		if c.names > 0 {
			want = back(c.names)
		}
		if !cut.Names.Equal(want) {
			t.Errorf("%s: names before %s; want %s", c.what, cut.Names, want)
		}
	}
}

func TestUnused(t *testing.T) {
	now := time.UnixMilli(10000)
	life := func(ms time.Duration) rule.Life { return rule.Life{TTL: ms * time.Millisecond} }
	ttl := time.Duration(9) * time.Second
	cut := NewCutoffs(index.Policy{TTL: ttl, Grace: time.Second, Rules: rule.Rules{{TTL: new(time.Duration)}}},
		func(d time.Duration) time.Time { return now.Add(-d) }, time.Time{})
	at := func(k layout.Key, placed bool, ms int64) index.Row {
		return index.Row{Key: k, Placed: placed, AccessedAt: time.UnixMilli(ms)}
	}
	m := layout.ManifestKey("a", "d")
	for _, c := range []struct {
		what string
		row  index.Row
		life rule.Life
		want bool
	}{
		{"a tag older than its cutoff", at(layout.TagKey("a", "v1"), true, 999), life(9000), true},
		{"a tag at the cutoff", at(layout.TagKey("a", "v1"), true, 1000), life(9000), false},
		{"a tag that lives for ever", at(layout.TagKey("a", "v1"), true, 0), life(0), false},
		{"a manifest older than the content's cutoff only", at(m, true, 5000), life(9000), false},
		{"a manifest whose file never came counts as content", at(m, false, 5000), life(9000), true},
		{"a layer link", at(layout.LayerKey("a", "d"), true, 5000), life(9000), true},
		{"a blob in grace", at(layout.BlobKey("d"), true, 9000), life(9000), false},
	} {
		if got := cut.Unused(c.row, c.life); got != c.want {
			t.Errorf("%s: unused %v; want %v", c.what, got, c.want)
		}
	}
	if (Cutoffs{}).Unused(at(m, true, 0), life(9000)) {
		t.Error("without a cutoff for images a manifest is unused")
	}
}

func TestNoCutoffIsLaterThanTheRun(t *testing.T) {
	run, second := time.UnixMilli(5000), time.Second
	got := NewCutoffs(index.Policy{TTL: 9 * second, Grace: second, Rules: rule.Rules{{TTL: &second}}},
		func(d time.Duration) time.Time { return time.UnixMilli(10000).Add(-d) }, run)
	if early := time.UnixMilli(1000); !got.Names.Equal(early) || !got.Latest.Equal(run) || !got.Content.Equal(run) ||
		!got.Of(rule.Life{TTL: second}).Equal(run) {
		t.Errorf("%+v", got)
	}
}

func TestRequest(t *testing.T) {
	short, long := time.Minute, 100*time.Hour
	last := index.Policy{TTL: 24 * time.Hour, Grace: time.Hour, Resolution: time.Minute}
	owed := index.Policy{Grace: 2 * time.Hour, Resolution: time.Minute}
	if p := (Request{Default: index.Policy{TTL: long, Grace: short}}).Resolve(index.Policy{}, index.Policy{},
		false); p.TTL != long || p.Grace != short || p.Resolution != Resolution(short) {
		t.Errorf("without a server: %+v", p)
	}
	if p := (Request{}).Resolve(last, index.Policy{}, true); !reflect.DeepEqual(p, last) {
		t.Errorf("the server's: %+v", p)
	}
	rules, none := rule.Rules{{TTL: &long}}, rule.Rules{}
	last.Rules = rules
	if p := (Request{TTL: &long}).Resolve(last, owed, true); len(p.Rules) != 1 {
		t.Errorf("a ttl that was asked for takes the rules away: %+v", p)
	}
	if p := (Request{Rules: &none}).Resolve(last, owed, true); len(p.Rules) != 0 {
		t.Errorf("asked for no rules: %+v", p)
	}
	if p := (Request{TTL: &long, Grace: &short}).Resolve(last, owed, true); p.TTL != long || p.Grace != owed.Grace ||
		p.Resolution != owed.Resolution {
		t.Errorf("asked below what is owed: %+v", p)
	}
}
