package room

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/content"
)

const mib = 1 << 20

// disk is what a store takes.
type disk struct {
	atomic.Int64
	counts atomic.Int64
}

func (d *disk) used(context.Context) (int64, error) {
	d.counts.Add(1)
	return d.Load(), nil
}

func newRoom(used, budget int64) (*Room, *disk) {
	d := &disk{}
	d.Store(used)
	r := New(d.used, Patience)
	r.SetBudget(budget)
	<-r.Pressed() // by the new budget
	return r, d
}

// wantNothing wants no claim to have left anything.
func wantNothing(t *testing.T, r *Room) {
	t.Helper()
	if coming, now := r.Coming(), r.Stats(); coming != 0 || now.Reserved != 0 {
		t.Errorf("%d bytes are coming, %d reserved; want none", coming, now.Reserved)
	}
}

func refusal(t *testing.T, err error) *content.FullError {
	t.Helper()
	var full *content.FullError
	if !errors.As(err, &full) {
		t.Fatalf("%v; want a refusal", err)
	}
	return full
}

func refused(t *testing.T, err error) {
	t.Helper()
	_ = refusal(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func isPressed(r *Room) bool {
	select {
	case <-r.Pressed():
		return true
	default:
		return false
	}
}

// asks begins a claim that asks for n bytes. Its answer comes later.
func asks(ctx context.Context, r *Room, n int64) <-chan error {
	answer := make(chan error, 1)
	go func() {
		c := r.Claim()
		err := c.Grow(ctx, n)
		c.End()
		answer <- err
	}()
	return answer
}

// TestTheLimitHoldsAtEveryMoment, whatever uploads do at a time: they announce what they bring or do not, bring less,
// leave, and wait for evictions that find something or nothing, while the budget changes. No reservation is forgotten.
func TestTheLimitHoldsAtEveryMoment(t *testing.T) {
	const budget = 64 * mib
	r, d := newRoom(0, budget)
	r.pause = 0
	var limit atomic.Int64 // the largest that may count for what is written now
	limit.Store(percent(limitMark, budget))
	ctx, stop := context.WithCancel(t.Context())
	var taken, full atomic.Int64
	tells := make(chan struct{}) // of an upload that was refused, which goes on when an eviction may find something
	var evictions sync.WaitGroup
	evictions.Go(func() {
		for random := rand.New(rand.NewPCG(1, 2)); ; {
			select {
			case <-ctx.Done():
				return
			case <-tells:
				r.mu.Lock()
				r.barren = time.Time{}
				r.mu.Unlock()
			case <-r.Pressed():
				ended := r.Evicting()
				more := random.IntN(3) > 0
				if more {
					d.Store(0)
				}
				ended(more)
			}
			r.mu.Lock()
			if r.reserved < 0 || r.wanted < 0 || r.since < 0 {
				t.Errorf("%d bytes reserved, %d waited for, %d written since", r.reserved, r.wanted, r.since)
			}
			r.mu.Unlock()
		}
	})
	var uploads sync.WaitGroup
	for i := range uint64(16) {
		uploads.Go(func() {
			random := rand.New(rand.NewPCG(i, 3))
			for range 200 {
				ctx, leave := context.WithTimeout(t.Context(), time.Duration(random.IntN(20))*time.Millisecond)
				c := r.Claim()
				for range 1 + random.IntN(4) {
					if err := c.Grow(ctx, random.Int64N(8*mib)); errors.As(err, new(*content.FullError)) {
						full.Add(1)
						tells <- struct{}{}
						break
					} else if err != nil {
						break
					}
					n := random.Int64N(c.left + 1)
					if now := d.Add(n); now > limit.Load() {
						t.Errorf("%d bytes are used", now)
					}
					c.Wrote(n)
					taken.Add(n)
				}
				c.End()
				leave()
			}
		})
	}
	uploads.Wait()
	stop()
	evictions.Wait()
	wantNothing(t, r)
	if taken.Load() < 10*budget || full.Load() == 0 {
		t.Errorf("%d bytes were taken and %d uploads refused: too few to show anything", taken.Load(), full.Load())
	}
}

// TestWithoutABudgetNothingIsRefusedNorCounted, not even what no disk has.
func TestWithoutABudgetNothingIsRefusedNorCounted(t *testing.T) {
	d := &disk{}
	r := New(d.used, Patience)
	claims := make([]Claim, 100)
	for i := range claims {
		claims[i] = r.Claim()
		must(t, claims[i].Grow(t.Context(), 1<<63-1-block))
	}
	if now := r.Stats().Reserved; now < 100*most {
		t.Errorf("%d bytes are reserved", now)
	}
	for i := range claims {
		claims[i].End()
	}
	if isPressed(r) || d.counts.Load() > 0 {
		t.Errorf("what is used was counted %d times", d.counts.Load())
	}
	wantNothing(t, r)
}

// TestWhatCannotFitIsRefusedAtOnce: it waits for no eviction, and asks for none.
func TestWhatCannotFitIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRoom(0, 100*mib)
		whole := r.Claim()
		if full := refusal(t, whole.Grow(t.Context(), 106*mib)); full.Helps() {
			t.Errorf("more than the budget: %v", full)
		}
		first, second := r.Claim(), r.Claim()
		must(t, first.Grow(t.Context(), 60*mib))
		if full := refusal(t, second.Grow(t.Context(), 60*mib)); full.Helps() || full.Reserved != 60*mib+beside {
			t.Errorf("beside another that reserved %d: %v", full.Reserved, full)
		}
		if isPressed(r) {
			t.Error("an eviction is asked for that cannot help")
		}
		first.End()
		must(t, second.Grow(t.Context(), 60*mib))
		second.End()
		wantNothing(t, r)
	})
}

// TestAnUploadWaitsForAnEviction, and what waits counts as what is to come.
func TestAnUploadWaitsForAnEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(94*mib, 100*mib) // below the high mark
		answer := asks(t.Context(), r, 20*mib)
		<-r.Pressed()
		if coming := r.Coming(); coming != 20*mib+beside {
			t.Errorf("%d bytes are coming", coming)
		}
		refused(t, <-asks(t.Context(), r, 90*mib)) // what the first waits for is its own
		ended := r.Evicting()
		d.Store(90 * mib)
		ended(true) // not enough yet
		<-r.Pressed()
		ended = r.Evicting()
		d.Store(80 * mib)
		ended(true)
		must(t, <-answer)
		wantNothing(t, r)
	})
}

// TestWhereNothingMoreMayGoUploadsAreRefused: those that wait, and those that come soon after. Later ones ask again.
func TestWhereNothingMoreMayGoUploadsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(104*mib, 100*mib)
		answer := asks(t.Context(), r, 2*mib)
		<-r.Pressed()
		r.Evicting()(false)
		if full := refusal(t, <-answer); full.Used != 104*mib || full.Budget != 100*mib || !full.Helps() {
			t.Errorf("%+v", full)
		}
		refused(t, <-asks(t.Context(), r, 2*mib))
		must(t, <-asks(t.Context(), r, 1)) // what fits is taken
		if isPressed(r) {
			t.Error("another eviction is asked for, right after one that found nothing")
		}
		d.Store(100 * mib) // by a client's DELETE
		must(t, <-asks(t.Context(), r, 2*mib))
		d.Store(104 * mib)
		time.Sleep(barrenFor)
		answer = asks(t.Context(), r, 2*mib)
		<-r.Pressed()
		r.Evicting()(false)
		refused(t, <-answer)
		wantNothing(t, r)
	})
}

// TestAnUploadDoesNotWaitForEver, where no eviction ever ends, and leaves when its client does.
func TestAnUploadDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(104*mib, 100*mib)
		asked := time.Now()
		refused(t, <-asks(t.Context(), r, 2*mib))
		if took := time.Since(asked); took < Patience || took > Patience+recheck {
			t.Errorf("it waited for %v", took)
		}
		ctx, leave := context.WithCancel(t.Context())
		answer := asks(ctx, r, 2*mib)
		synctest.Wait()
		leave()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that left: %v", err)
		}
		answer = asks(t.Context(), r, 2*mib)
		synctest.Wait()
		d.Store(0) // by another process, which says nothing
		must(t, <-answer)
		wantNothing(t, r)
	})
}

// TestWhatIsUsedIsCountedSeldom, and again before an upload is refused, and after an eviction.
func TestWhatIsUsedIsCountedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(0, 100*mib)
		c := r.Claim()
		for range 1000 {
			must(t, c.Grow(t.Context(), 1))
			c.Wrote(1)
		}
		if n := d.counts.Load(); n != 1 {
			t.Errorf("%d counts within a moment", n)
		}
		c.End()
		d.Store(100 * mib)
		answer := asks(t.Context(), r, 50*mib)
		must(t, <-answer) // by the first count it fits
		time.Sleep(countPause)
		began := time.Now()
		answer = asks(t.Context(), r, 50*mib)
		<-r.Pressed()
		ended := r.Evicting()
		d.Store(0)
		ended(true)
		must(t, <-answer)
		if took := time.Since(began); took > 0 {
			t.Errorf("after an eviction what is used was counted %v later", took)
		}
	})
}

// TestNoUploadIsRefusedByAnOldCount: it asked after that began.
func TestNoUploadIsRefusedByAnOldCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(104*mib, 100*mib)
		answer := asks(t.Context(), r, 2*mib)
		<-r.Pressed()
		r.Evicting()(false)
		refused(t, <-answer)
		d.Store(0)
		must(t, <-asks(t.Context(), r, 50*mib))
	})
}

// TestACountThatFails refuses the first uploads, since nothing is known, and later none that fits by the last count.
func TestACountThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var failure error
		r := New(func(context.Context) (int64, error) { return 10 * mib, failure }, Patience)
		r.SetBudget(100 * mib)
		failure = broken
		if err := <-asks(t.Context(), r, 1); !errors.Is(err, broken) {
			t.Errorf("%v; want why it could not be counted", err)
		}
		failure = nil
		time.Sleep(countPause)
		must(t, <-asks(t.Context(), r, 1))
		failure = broken
		time.Sleep(countPause)
		must(t, <-asks(t.Context(), r, 1))
		if err := <-asks(t.Context(), r, 99*mib); !errors.Is(err, broken) {
			t.Errorf("%v; want why it could not be counted", err)
		}
		wantNothing(t, r)
	})
}

// TestABudgetChangesWhileUploadsRun: what is reserved stays, what grows has to fit, and who waits for room hears of it.
func TestABudgetChangesWhileUploadsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRoom(0, 100*mib)
		announced, chunked := r.Claim(), r.Claim()
		must(t, announced.Grow(t.Context(), 40*mib))
		must(t, chunked.Grow(t.Context(), mib))
		r.SetBudget(20 * mib)
		if !isPressed(r) {
			t.Error("a lower budget asks for no eviction")
		}
		if announced.left != 40*mib {
			t.Errorf("of what was reserved %d is left", announced.left)
		}
		refused(t, chunked.Grow(t.Context(), mib))
		announced.Wrote(announced.left)
		announced.End()
		must(t, chunked.Grow(t.Context(), mib)) // the disk of this test took nothing of it
		chunked.End()
		wantNothing(t, r)

		r.SetBudget(100 * mib)
		<-r.Pressed()
		first := r.Claim()
		must(t, first.Grow(t.Context(), 80*mib))
		first.Wrote(80 * mib)
		answer := asks(t.Context(), r, 80*mib)
		synctest.Wait()
		r.SetBudget(0)
		must(t, <-answer)
		first.End()
		wantNothing(t, r)
	})
}

// TestAnUploadThatEndsMakesRoomAtOnce for another one that waits, which has nothing counted for it.
func TestAnUploadThatEndsMakesRoomAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(30*mib, 100*mib)
		first := r.Claim()
		must(t, first.Grow(t.Context(), 40*mib))
		began := time.Now()
		answer := asks(t.Context(), r, 40*mib)
		synctest.Wait()
		time.Sleep(countPause) // it has counted and waits
		synctest.Wait()
		counts := d.counts.Load()
		first.End()
		must(t, <-answer)
		if took := time.Since(began); took != countPause || d.counts.Load() != counts {
			t.Errorf("it waited for %v, %d counts", took-countPause, d.counts.Load()-counts)
		}
	})
}

// TestUploadsThatEndHaveNothingCounted, however many there are while another one waits.
func TestUploadsThatEndHaveNothingCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(95*mib, 100*mib)
		ctx, leave := context.WithCancel(t.Context())
		answer := asks(ctx, r, 20*mib)
		for range 100 {
			must(t, <-asks(t.Context(), r, 1))
			synctest.Wait()
		}
		if n := d.counts.Load(); n > 2 {
			t.Errorf("%d counts within a moment", n)
		}
		leave()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestWhatIsWrittenDuringACountIsAdded, though the count may have it already.
func TestWhatIsWrittenDuringACountIsAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *Room
		c := Claim{}
		r = New(func(context.Context) (int64, error) {
			c.Wrote(60 * mib)
			return 0, nil
		}, Patience)
		c = r.Claim()
		must(t, c.Grow(t.Context(), 60*mib))
		r.SetBudget(100 * mib)
		<-r.Pressed()
		answer := asks(t.Context(), r, 60*mib)
		<-r.Pressed()
		r.Evicting()(false)
		refused(t, <-answer)
	})
}

// TestWhatWasWrittenCountsOnce: after it was counted, no more than that.
func TestWhatWasWrittenCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRoom(0, 100*mib)
		for range 1000 {
			c := r.Claim()
			must(t, c.Grow(t.Context(), 50*mib))
			d.Add(50 * mib)
			c.Wrote(50 * mib)
			c.End()
			d.Add(-50 * mib) // it was cancelled
			time.Sleep(countPause)
		}
	})
}
